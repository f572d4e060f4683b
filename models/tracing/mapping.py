"""A trace of the records as spans with the attributes that MLflow and OpenTelemetry's conventions for models know."""

import json
from typing import Any

from infra.otlp import Rating, Trace, TraceSpan
from infra.records import Feedback
from infra.records import Trace as TraceRow

SPAN_TYPES = {
    "guard_input": "GUARDRAIL",
    "guard_passages": "GUARDRAIL",
    "guard_output": "GUARDRAIL",
    "check": "GUARDRAIL",
    "retrieve": "RETRIEVER",
    "rerank": "RERANKER",
    "rewrite": "CHAT_MODEL",
    "generate": "LLM",
    "context": "PARSER",
    "prompt": "PARSER",
    "tool": "TOOL",
}
"""Step of the pipeline → the type by which MLflow draws its span."""


def _message(role: str, content: str) -> str:
    """A text as the chat message that MLflow's lists show without the JSON around it."""
    return json.dumps({"messages": [{"role": role, "content": content}]})


def exported(row: TraceRow) -> Trace:
    """A kept (redacted) trace to export; passages stay in the records."""
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
    told = usage | {"total_tokens": sum(usage.values()), "cache_read_input_tokens": row.cached_tokens}
    attributes: dict[str, Any] = {
        "mlflow.spanType": "CHAIN",
        "mlflow.spanInputs": _message("user", row.question),
        "mlflow.spanOutputs": _message("assistant", row.answer),
        "mlflow.chat.tokenUsage": json.dumps(told),
        "mlflow.traceTag.release": row.release[:12],
        "mlflow.traceTag.arm": row.arm,
        "mlflow.traceTag.refused": str(row.refused).lower(),
        "gen_ai.usage.input_tokens": row.prompt_tokens,
        "gen_ai.usage.output_tokens": row.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": row.cached_tokens,
        "gen_ai.request.model": row.engine,
        "sluice.release": row.release,
        "sluice.rollout": row.rollout,
        "sluice.path": row.path,
        "sluice.tenant": row.tenant,
        "sluice.cost": row.cost,
        "sluice.cache": row.cache,
        "sluice.latency_ms": row.latency_ms,
        "sluice.unsafe": row.unsafe,
        "sluice.guards": row.guards,
        "sluice.tools": row.tools,
    }
    root = TraceSpan(name="answer", start_ns=start, end_ns=end, attributes=attributes)
    return Trace(trace_id=row.trace_id, root=root, children=steps, error=row.error)


def rating_of(row: Feedback) -> Rating:
    """A kept rating to export."""
    return Rating.model_validate(row, from_attributes=True)
