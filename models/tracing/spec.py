"""Section `traces` of the policy file: how long traces are kept, and what is exported when not all of it can be."""

from pydantic import Field

from infra.settings import Spec


class TraceSpec(Spec):
    """Retention and export of traces."""

    keep_days: float = Field(gt=0)
    """Days after which traces and their ratings are deleted."""
    export_batch: int = Field(50, ge=1, le=5000)
    """Traces in one request: batches of 20 or more cost MLflow about a third of single ones."""
    most_waiting: int | None = Field(None, ge=0)
    """Ordinary traces that may wait for export; of more only a sample is exported. None: all wait, however many.
    Errors, guard events, canary traffic and rated answers are always exported, and first."""
    sample: float = Field(1.0, ge=0, le=1)
    """Share of the ordinary traces that is exported while more of them wait than that; the others stay in the records
    and are counted as left out."""
