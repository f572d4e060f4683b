"""The gateway beside its peers: an instant upstream, who is measured, the load, and the rows."""
