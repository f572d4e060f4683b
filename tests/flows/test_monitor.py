"""The monitor flow without traces to export: retention and the aliases of the registry."""

import time

from mlflow import MlflowClient

from flows.monitor import monitor
from infra.records import Records, Trace
from infra.settings import settings
from infra.telemetry import REGISTERED_MODEL, Tracker
from tests.flows.project import Project

A, B = "a" * 64, "b" * 64


def trace(number: int, days: float) -> Trace:
    return Trace(
        trace_id=f"{number:032x}", created=time.time() - 86400 * days, release=A, arm="production", exported=True
    )


def test_old_traces_go_and_aliases_follow(project: Project) -> None:
    project.set("traces", keep_days=10)
    live = Records.open(settings().database_url)
    live.add_traces([trace(1, 11), trace(2, 9), trace(3, 400)])
    tracker = Tracker(settings().mlflow_address)
    run = tracker.start("test")
    versions = {digest: tracker.register_release(run, digest, "{}", {}) for digest in (A, B)}
    live.promote(A, None)
    live.promote(B, A)

    assert monitor() == {"exported": 0, "waiting": 0, "left_out": 0, "purged": 2}
    assert [row.trace_id for row in live.traces()] == [f"{2:032x}"]
    client = MlflowClient(tracking_uri=settings().mlflow_address, registry_uri=settings().mlflow_address)
    aliases = client.get_registered_model(REGISTERED_MODEL).aliases
    assert {name: str(version) for name, version in aliases.items()} == {
        "production": versions[B],
        "previous": versions[A],
    }
    assert monitor() == {"exported": 0, "waiting": 0, "left_out": 0, "purged": 0}
