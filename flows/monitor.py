"""Flow: what has to happen every few minutes: traces to MLflow, retention, the registry's aliases."""

from prefect import flow

from flows.checking import check_policy
from flows.recording import RunSpec
from infra.settings import Policy, use_policy
from models.tracing.spec import TraceSpec
from tasks.watching import apply_retention, export_traces, mirror_aliases


@flow(name="monitor", description="Export traces to MLflow, apply retention, mirror the aliases.")
def monitor(spec: RunSpec = RunSpec()) -> dict[str, int]:
    """How many traces were exported here, wait, were left out, and were purged.

    Needs no lock: each step is safe beside a night.
    """
    policy = Policy(use_policy(spec.policy), spec.overrides)
    check_policy(policy, "monitor")
    traces = policy.section("traces", TraceSpec)
    export = export_traces(traces)
    mirror_aliases()
    return {**export, "purged": apply_retention(traces)}
