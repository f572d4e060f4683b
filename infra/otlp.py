"""Traces and ratings over the OpenTelemetry protocol: to MLflow or to any other collector."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, ConfigDict

from infra.errors import InputError, PolicyError, TryAgainError

SERVICE = "sluice"
BUSY = (408, 425, 429)
"""Statuses below 500 after which the same request may succeed later."""
MLFLOW_API = "/api/2.0/mlflow"


class TraceSpan(BaseModel):
    """One span to export; times in nanoseconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


class Trace(BaseModel):
    """One request to export: a root span and its children. Texts must be redacted already."""

    model_config = ConfigDict(frozen=True)

    trace_id: str
    """32 hexadecimal digits."""
    root: TraceSpan
    children: tuple[TraceSpan, ...]
    error: str = ""


class Rating(BaseModel):
    """A user's rating of an exported trace, texts redacted. `rating` is -1 or 1, `created` in seconds."""

    model_config = ConfigDict(frozen=True)

    id: int
    trace_id: str
    rating: int
    reason: str
    correction: str
    simulated: bool
    created: float


class Sink(Protocol):
    """Where traces go. Both methods raise TryAgainError when the server does not answer, InputError when it refuses."""

    def send(self, traces: Sequence[Trace]) -> None:
        """Send traces in one request; all are taken or none."""
        ...

    def rate(self, rating: Rating) -> None:
        """Send one rating of a trace that was sent."""
        ...

    def close(self) -> None: ...


class Collector:
    """Any OpenTelemetry collector at `address` (with or without `/v1/traces`). A rating is a span of its trace."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None, timeout_s: float = 60) -> None:
        self.address = address.rstrip("/").removesuffix("/v1/traces")
        self._http = httpx.Client(headers=dict(headers or {}), timeout=timeout_s, trust_env=False)

    def send(self, traces: Sequence[Trace]) -> None:
        """See Sink."""
        self._post_spans(otlp_bytes(traces))

    def rate(self, rating: Rating) -> None:
        """See Sink."""
        self._post_spans(rating_bytes(rating))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _post_spans(self, body: bytes, **headers: str) -> None:
        headers = {"content-type": "application/x-protobuf", **headers}
        self._request("POST", "/v1/traces", content=body, headers=headers)

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, self.address + path, **more)
        except httpx.HTTPError as error:
            raise TryAgainError(f"{self.address} does not take traces: {type(error).__name__} {error}") from error
        if reply.status_code >= 500 or reply.status_code in BUSY:
            raise TryAgainError(f"{self.address} does not take traces now: {reply.status_code} {reply.text[:200]}")
        if reply.is_error:
            raise InputError(f"{self.address} refuses: {reply.status_code} {reply.text[:200]}")
        return reply


class MlflowSink(Collector):
    """An MLflow server: traces into its experiment `sluice`, ratings as assessments of people (or of programs)."""

    def __init__(self, address: str, experiment: str, timeout_s: float = 60) -> None:
        """`experiment` is a name; it is made where it is missing."""
        super().__init__(address, timeout_s=timeout_s)
        self._name = experiment
        self._experiment = ""

    def send(self, traces: Sequence[Trace]) -> None:
        """See Sink."""
        self._post_spans(otlp_bytes(traces), **{"x-mlflow-experiment-id": self._experiment_id()})

    def rate(self, rating: Rating) -> None:
        """See Sink."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(rating.created))
        said = {"correction": rating.correction} if rating.correction else {}
        assessment = {
            "assessment_name": "user_rating",
            "trace_id": f"tr-{rating.trace_id}",
            "source": {"source_type": "CODE" if rating.simulated else "HUMAN", "source_id": SERVICE},
            "create_time": when,
            "last_update_time": when,
            "feedback": {"value": rating.rating > 0},
            "rationale": rating.reason,
            "metadata": said | {"sluice.rating": str(rating.id)},
        }
        path = f"/api/3.0/mlflow/traces/tr-{rating.trace_id}/assessments"
        self._request("POST", path, json={"assessment": assessment})

    def _experiment_id(self) -> str:
        if not self._experiment:
            try:
                found = self._request(
                    "GET", f"{MLFLOW_API}/experiments/get-by-name", params={"experiment_name": self._name}
                )
                self._experiment = str(found.json()["experiment"]["experiment_id"])
            except InputError:
                made = self._request("POST", f"{MLFLOW_API}/experiments/create", json={"name": self._name})
                self._experiment = str(made.json()["experiment_id"])
        return self._experiment


def parse_headers(text: str) -> dict[str, str]:
    """Headers of a collector, `name=value` divided by commas as in OTEL_EXPORTER_OTLP_HEADERS.

    Raises: PolicyError for another form; the value is not told, it may be a secret.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise PolicyError("SLUICE_OTLP_HEADERS: write name=value, several divided by commas")
        found[name.strip()] = value.strip()
    return found


def _span_ids(trace_id: str) -> tuple[bytes, bytes]:
    """(trace id, id of its root span)."""
    return bytes.fromhex(trace_id), bytes.fromhex(trace_id[:16])


def _request_with_scope() -> tuple[Any, Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    _fill(resource.resource.attributes, {"service.name": SERVICE})
    return request, resource.scope_spans.add()


def otlp_bytes(traces: Sequence[Trace]) -> bytes:
    """An OTLP ExportTraceServiceRequest in protobuf (opentelemetry.io/docs/specs/otlp)."""
    request, scope = _request_with_scope()
    for trace in traces:
        trace_id, root_id = _span_ids(trace.trace_id)
        for number, span in enumerate((trace.root, *trace.children)):
            entry = scope.spans.add()
            entry.trace_id = trace_id
            entry.span_id = root_id if number == 0 else (int.from_bytes(root_id, "big") ^ number).to_bytes(8, "big")
            if number:
                entry.parent_span_id = root_id
            entry.name = span.name
            entry.kind = 1
            entry.start_time_unix_nano, entry.end_time_unix_nano = span.start_ns, span.end_ns
            entry.status.code = 2 if trace.error and number == 0 else 1
            entry.status.message = trace.error if number == 0 else ""
            _fill(entry.attributes, span.attributes)
    return bytes(request.SerializeToString())


def rating_bytes(rating: Rating) -> bytes:
    """A rating as a span `feedback` under the root of its trace."""
    request, scope = _request_with_scope()
    entry = scope.spans.add()
    entry.trace_id, entry.parent_span_id = _span_ids(rating.trace_id)
    entry.span_id = (2**63 | rating.id).to_bytes(8, "big")
    entry.name, entry.kind = "feedback", 1
    entry.start_time_unix_nano = entry.end_time_unix_nano = int(rating.created * 1e9)
    _fill(entry.attributes, rating.model_dump(include={"rating", "reason", "correction", "simulated"}))
    return bytes(request.SerializeToString())


def _fill(target: Any, attributes: Mapping[str, object]) -> None:
    """Attributes as OTLP key-values; what is no scalar is written as JSON."""
    for key, value in sorted(attributes.items()):
        pair = target.add()
        pair.key = key
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        else:
            pair.value.string_value = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
