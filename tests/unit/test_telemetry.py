"""The MLflow side on a database without a server: runs, artifacts by digest, releases, aliases; and traces as OTLP."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from infra.errors import SetupError, TryAgainError
from infra.settings import be_quiet
from infra.store import ArtifactRef
from infra.telemetry import OTLP_BATCH, REGISTERED_MODEL, Trace, TraceSpan, Tracker, otlp_bytes

A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    be_quiet()
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # without a server artifacts go into the working folder
        yield Tracker(f"sqlite:///{folder / 'mlflow.db'}")


def ref(name: str, digest: str = A) -> ArtifactRef:
    return ArtifactRef(kind=name, digest=digest, uri=f"/store/{name}/{digest}")


def test_a_stage_is_a_run_under_the_night(tracker: Tracker, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>hello</p>")
    parent = tracker.start("night", tags={"sluice.flow": "nightly"})
    child = tracker.start("embed", parent)
    tracker.log(
        child,
        params={"embedder": "minilm", "long": "x" * 9000},
        metrics={"computed": 0, "recall_at_5": 0.75},
        artifacts={"index": ref("index", B)},
        inputs={"vectors": ref("vectors"), "again": ref("vectors"), "chunks": ref("chunks", B)},
        files=[page],
        texts={"note.txt": "hello"},
        table=[{"metric": "recall", "value": 0.75}, {"metric": "errors", "cases": 3}],
    )
    tracker.curve(child, "loss", [(step, 1 / step) for step in range(1, 2500)])
    tracker.end(child, ok=True)
    tracker.end(parent, ok=False)
    found = tracker.client.get_run(child)
    assert found.info.status == "FINISHED"
    assert tracker.client.get_run(parent).info.status == "FAILED"
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.params["embedder"] == "minilm"
    assert len(found.data.params["long"]) == 6000
    assert found.data.metrics.items() >= {"computed": 0.0, "recall_at_5": 0.75, "loss": 1 / 2499}.items()
    assert len(tracker.client.get_metric_history(child, "loss")) == 2499
    assert found.data.tags["artifact.index"] == f"index {B} /store/index/{B}"
    assert found.inputs is not None
    inputs = {item.dataset.name: json.loads(item.dataset.source) for item in found.inputs.dataset_inputs}
    assert inputs == {
        "vectors": {"digest": A, "uri": f"/store/vectors/{A}"}, "chunks": {"digest": B, "uri": f"/store/chunks/{B}"},
    }  # fmt: skip
    names = [item.path for item in tracker.client.list_artifacts(child)]
    assert names == ["note.txt", "report.html", "table.json"]
    shown = tracker.client.load_table(tracker.experiment, "table.json", [child])
    assert list(shown["metric"]) == ["recall", "errors"]
    assert tracker.run_address(child).endswith(f"/runs/{child}")


def test_a_run_without_anything(tracker: Tracker) -> None:
    run = tracker.start("empty")
    tracker.log(run)
    tracker.curve(run, "loss", [])
    tracker.end(run, ok=True)
    assert tracker.client.get_run(run).data.metrics == {}


def test_a_run_whose_process_was_killed(tracker: Tracker) -> None:
    run = tracker.start("night", started=1_800_000_000.5)
    assert tracker.end_lost(run)
    info = tracker.client.get_run(run).info
    assert (info.status, info.start_time) == ("KILLED", 1_800_000_000_500)
    assert not tracker.end_lost("0" * 32)


def test_a_release_is_registered_once_and_aliases_follow_the_records(tracker: Tracker) -> None:
    tracker.mirror_aliases({"production": A})  # nothing is registered yet
    run = tracker.start("release")
    first = tracker.register_release(run, A, '{"a": 1}', {"precision": "bf16"})
    assert tracker.register_release(run, A, '{"a": 1}', {"precision": "bf16"}) == first
    second = tracker.register_release(run, B, '{"b": 1}', {})
    assert first != second
    version = tracker.client.get_model_version(REGISTERED_MODEL, first)
    assert version.tags == {"release": A, "precision": "bf16"}

    def aliases() -> dict[str, str]:
        return {name: str(at) for name, at in tracker.client.get_registered_model(REGISTERED_MODEL).aliases.items()}

    tracker.mirror_aliases({"production": A, "canary": B})
    assert aliases() == {"production": first, "canary": second}
    tracker.mirror_aliases({"production": B, "previous": A, "candidate": "c" * 64})
    tracker.mirror_aliases({"production": B, "previous": A, "candidate": "c" * 64})
    assert aliases() == {"production": second, "previous": first}


def test_processes_that_start_at_once_share_the_experiment(tracker: Tracker) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: Tracker(tracker.address).experiment, range(4)))
    assert found == {tracker.experiment}


def test_a_wrong_call_is_not_a_server_that_is_away(tracker: Tracker) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="not found"):
        tracker.end("0" * 32, ok=True)


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:9 does not answer.*sluice up"):
        Tracker("http://127.0.0.1:9")


def span(name: str, at: int, **attributes: object) -> TraceSpan:
    return TraceSpan(name=name, start_ns=at, end_ns=at + 5, attributes=attributes)


def trace(number: int, children: int = 2, error: str = "") -> Trace:
    steps = tuple(span(f"step {step}", 10 + step) for step in range(children))
    return Trace(trace_id=f"{number + 1:032x}", root=span("answer", 10), children=steps, error=error)


def spans_of(body: bytes) -> list[Span]:
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    return list(resource.scope_spans[0].spans)


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


@contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that answers with these statuses, then 200; its address and (experiment, body) of every request."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = statuses.pop(0) if statuses else 200
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            if status == 200:
                taken.append((self.headers["x-mlflow-experiment-id"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    worker = threading.Thread(target=server.serve_forever)
    worker.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", taken
    finally:
        server.shutdown()
        worker.join()
        server.server_close()


@pytest.fixture
def exporter(tracker: Tracker) -> Iterator[Tracker]:
    """The tracker, whose address a test may change."""
    address = tracker.address
    yield tracker
    tracker.address = address


def test_traces_are_sent_in_batches(exporter: Tracker) -> None:
    traces = [trace(number) for number in range(2 * OTLP_BATCH + 1)]
    with receiver([]) as (address, taken):
        exporter.address = address
        assert exporter.export(traces) == len(traces)
        assert exporter.export([]) == 0
    assert [len(spans_of(body)) // 3 for _, body in taken] == [OTLP_BATCH, OTLP_BATCH, 1]
    assert {experiment for experiment, _ in taken} == {exporter.experiment}


def test_a_server_that_does_not_take_them_can_be_asked_again(exporter: Tracker) -> None:
    with receiver([200, 503]) as (address, taken):
        exporter.address = address
        with pytest.raises(TryAgainError, match=rf"did not take traces {OTLP_BATCH}\.\.{OTLP_BATCH + 1}: .*503"):
            exporter.export([trace(number) for number in range(OTLP_BATCH + 1)])
        assert len(taken) == 1
    with pytest.raises(TryAgainError, match=r"did not take traces 0\.\.1"):
        exporter.export([trace(0)])
