"""Traces and ratings as OTLP, to MLflow and to other collectors: what is sent, and what failures mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from infra.errors import InputError, PolicyError, TryAgainError
from infra.otlp import Collector, MlflowSink, Rating, Trace, TraceSpan, otlp_bytes, parse_headers
from tests.otlp_receiver import Receiver, spans_of

RATING = Rating(id=5, trace_id="0f" * 16, rating=-1, reason="wrong", correction="15 days", simulated=False, created=1.5)


def span(name: str, at: int, **attributes: object) -> TraceSpan:
    return TraceSpan(name=name, start_ns=at, end_ns=at + 5, attributes=attributes)


def trace(number: int, children: int = 2, error: str = "") -> Trace:
    steps = tuple(span(f"step {step}", 10 + step) for step in range(children))
    return Trace(trace_id=f"{number + 1:032x}", root=span("answer", 10), children=steps, error=error)


def test_spans_of_a_trace_hang_on_its_root() -> None:
    root = span("answer", 10, text="hé", yes=True, number=7, share=0.5, nested={"b": [1], "a": None})
    found = spans_of(otlp_bytes([Trace(trace_id="0f" * 16, root=root, children=(span("retrieve", 11),))]))
    assert [entry.name for entry in found] == ["answer", "retrieve"]
    assert {entry.trace_id.hex() for entry in found} == {"0f" * 16}
    assert (found[0].parent_span_id, found[1].parent_span_id) == (b"", found[0].span_id)
    assert (found[0].start_time_unix_nano, found[0].end_time_unix_nano) == (10, 15)
    values = {pair.key: pair.value for pair in found[0].attributes}
    assert values["text"].string_value == "hé"
    assert (values["yes"].bool_value, values["yes"].WhichOneof("value")) == (True, "bool_value")
    assert (values["number"].int_value, values["share"].double_value) == (7, 0.5)
    assert values["nested"].string_value == '{"a": null, "b": [1]}'


def test_an_error_is_the_roots() -> None:
    found = spans_of(otlp_bytes([trace(1, error="engine went away")]))
    assert [entry.status.code for entry in found] == [
        Status.STATUS_CODE_ERROR, Status.STATUS_CODE_OK, Status.STATUS_CODE_OK,
    ]  # fmt: skip
    assert found[0].status.message == "engine went away"


@given(some.lists(some.integers(0, 9), min_size=1, max_size=12))
def test_no_two_spans_share_an_id(children: list[int]) -> None:
    found = spans_of(otlp_bytes([trace(number, count) for number, count in enumerate(children)]))
    assert len(found) == len({(entry.trace_id, entry.span_id) for entry in found}) == sum(children) + len(children)


def test_mlflow_gets_traces_in_its_experiment_and_ratings_as_assessments() -> None:
    receiver = Receiver()
    with receiver.running():
        for _ in range(2):
            sink = MlflowSink(receiver.address, "sluice")
            sink.send([trace(1), trace(2)])
            sink.send([trace(3)])
            sink.rate(RATING)
            sink.close()
    assert receiver.experiments == ["sluice"]
    assert [len(spans) for spans in receiver.batches] == [6, 3, 6, 3]
    assert {headers["x-mlflow-experiment-id"] for headers in receiver.headers} == {"7"}
    path, told = receiver.assessments[0]
    assert path == f"/api/3.0/mlflow/traces/tr-{'0f' * 16}/assessments"
    assert (told["feedback"], told["rationale"], told["source"]["source_type"]) == ({"value": False}, "wrong", "HUMAN")
    assert told["metadata"] == {"correction": "15 days", "sluice.rating": "5"}
    assert told["create_time"] == "1970-01-01T00:00:01Z"


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_any_collector_gets_them_with_its_headers(path: str) -> None:
    receiver = Receiver()
    with receiver.running():
        sink = Collector(receiver.address + path, parse_headers("x-team=water, authorization=Bearer a=b"))
        sink.send([trace(1)])
        sink.rate(RATING)
        sink.close()
    assert {(sent["x-team"], sent["authorization"]) for sent in receiver.headers} == {("water", "Bearer a=b")}
    (span,) = receiver.batches[1]
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("feedback", "0f" * 16, "0f" * 8)
    assert {pair.key: pair.value.string_value for pair in span.attributes}["correction"] == "15 days"


def test_a_wrong_header_is_named_without_its_value() -> None:
    with pytest.raises(PolicyError, match="SLUICE_OTLP_HEADERS") as told:
        parse_headers("secret-without-a-name")
    assert "secret" not in str(told.value)
    assert parse_headers("") == {}


@pytest.mark.parametrize(
    ("status", "kind"), [(500, TryAgainError), (503, TryAgainError), (429, TryAgainError), (422, InputError)]
)
def test_what_a_status_means(status: int, kind: type[Exception]) -> None:
    receiver = Receiver()
    receiver.statuses = [status]
    with receiver.running():
        sink = Collector(receiver.address)
        with pytest.raises(kind, match=str(status)):
            sink.send([trace(1)])
        sink.send([trace(1)])
        sink.close()
    sink = Collector(receiver.address)
    with pytest.raises(TryAgainError, match="ConnectError"):
        sink.send([trace(2)])
