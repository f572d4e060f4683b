"""HTTP connections of the gateway with limits that the server itself does not have: time, header size, number."""

from pydantic import Field

from infra.settings import Spec


class HttpSpec(Spec):
    """What a connection may do; None: no limit."""

    header_timeout_s: float | None = Field(None, gt=0, le=3600)
    """Time for a request's headers, and for the first request of a connection to begin."""
    body_timeout_s: float | None = Field(None, gt=0, le=3600)
    """Time for a request's body."""
    max_header_bytes: int | None = Field(None, ge=1024, le=1_048_576)
    """Size of a request's headers."""
    max_connections: int | None = Field(None, ge=1)
    """Connections at once; where one more comes, the one that has been idle for longest is closed."""
    max_json_depth: int | None = Field(None, ge=4, le=500)
    """Levels of a body's JSON."""
