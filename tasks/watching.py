"""Tasks that look after what was answered: traces to MLflow, retention, aliases."""

import json
import time
from typing import Any

from prefect import task
from pydantic import Field

from infra.records import Records
from infra.records import Trace as TraceRow
from infra.settings import Spec, settings
from infra.telemetry import Trace, TraceSpan, Tracker

SECONDS_PER_DAY = 86400.0
SPAN_TYPES = {"retrieve": "RETRIEVER", "generate": "LLM", "guard_input": "GUARDRAIL", "guard_output": "GUARDRAIL"}
SPAN_TYPES |= {"guard_passages": "GUARDRAIL", "context": "PARSER", "prompt": "PARSER"}
"""Step of the pipeline → the type by which MLflow draws its span."""


class TraceSpec(Spec):
    """Section `traces` of the policy file."""

    keep_days: float = Field(gt=0)
    """Days after which traces and their ratings are deleted."""
    export_batch: int = Field(500, ge=1)
    """Traces read from the records at a time."""


def _message(role: str, content: str) -> str:
    """A text as the chat message that MLflow's lists show without the JSON around it."""
    return json.dumps({"messages": [{"role": role, "content": content}]})


def _exported(row: TraceRow) -> Trace:
    """A kept (redacted) trace in MLflow's attributes; passages and personal data stay in the records."""
    spans = [TraceSpan.model_validate(span) for span in row.spans]
    start = min((span.start_ns for span in spans), default=int(row.created * 1e9))
    end = max((span.end_ns for span in spans), default=start + int(row.latency_ms * 1e6))
    steps = tuple(
        span.model_copy(
            update={"attributes": {"mlflow.spanType": SPAN_TYPES.get(span.name, "CHAIN")} | span.attributes}
        )
        for span in spans
    )
    usage = {"input_tokens": row.prompt_tokens, "output_tokens": row.completion_tokens}
    attributes: dict[str, Any] = {
        "mlflow.spanType": "CHAIN",
        "mlflow.spanInputs": _message("user", row.question),
        "mlflow.spanOutputs": _message("assistant", row.answer),
        "mlflow.chat.tokenUsage": json.dumps(usage | {"total_tokens": sum(usage.values())}),
        "mlflow.traceTag.release": row.release[:12],
        "mlflow.traceTag.arm": row.arm,
        "mlflow.traceTag.refused": str(row.refused).lower(),
        "sluice.release": row.release,
        "sluice.guards": row.guards,
    }
    root = TraceSpan(name="answer", start_ns=start, end_ns=end, attributes=attributes)
    return Trace(trace_id=row.trace_id, root=root, children=steps, error=row.error)


@task(name="export-traces", retries=2, retry_delay_seconds=5)
def export_traces(spec: TraceSpec) -> int:
    """Send every trace that no exporter has taken yet to MLflow, in batches; returns how many."""
    live = Records.open(settings().database_url)
    tracker = Tracker(settings().mlflow_address)
    sent = 0
    while rows := live.unexported(spec.export_batch):
        sent += tracker.export([_exported(row) for row in rows])
        live.mark_exported(row.trace_id for row in rows)
    return sent


@task(name="apply-retention")
def apply_retention(spec: TraceSpec) -> int:
    """Delete traces older than the policy keeps; returns how many."""
    return Records.open(settings().database_url).purge(time.time() - spec.keep_days * SECONDS_PER_DAY)


@task(name="mirror-aliases")
def mirror_aliases() -> None:
    """Show the records' pointers as aliases of the registered model."""
    Tracker(settings().mlflow_address).mirror_aliases(Records.open(settings().database_url).pointers())
