"""Tasks that look after what was answered: traces to MLflow or another collector, retention, aliases."""

import time

from prefect import task

from infra.records import Records
from infra.settings import settings
from infra.telemetry import Tracker
from models.tracing.exporter import Exporter, open_sink
from models.tracing.process import exporting_alone
from models.tracing.spec import TraceSpec

SECONDS_PER_DAY = 86400.0


@task(name="export-traces", retries=2, retry_delay_seconds=5)
def export_traces(spec: TraceSpec) -> dict[str, int]:
    """Export what waits, unless the exporter's process does so; what was sent, what waits and what was left out."""
    live = Records.open(settings().database_url)
    with exporting_alone(settings().home) as alone:
        sent = 0
        if alone:
            sink = open_sink(settings())
            sent = Exporter(live, sink, spec).run()
            sink.close()
        state = live.export_state()
    return {"exported": sent, "waiting": state.urgent + state.ordinary, "left_out": state.left_out}


@task(name="apply-retention")
def apply_retention(spec: TraceSpec) -> int:
    """Delete traces older than the policy keeps; returns how many."""
    return Records.open(settings().database_url).purge(time.time() - spec.keep_days * SECONDS_PER_DAY)


@task(name="mirror-aliases")
def mirror_aliases() -> None:
    """Show the records' pointers as aliases of the registered model."""
    Tracker(settings().mlflow_address).mirror_aliases(Records.open(settings().database_url).pointers())
