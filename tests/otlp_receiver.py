"""An OTLP receiver over HTTP for tests: keeps what it takes, fails by script, goes away and comes back."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def spans_of(body: bytes) -> list[Span]:
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert attributes == {"service.name": "sluice"}
    return list(resource.scope_spans[0].spans)


class Receiver:
    """The server. `statuses` are answered first, then 200; `poison` is a trace id that it refuses with 422."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.poison = ""
        self.headers: list[dict[str, str]] = []
        self.batches: list[list[Span]] = []
        self.assessments: list[tuple[str, dict[str, Any]]] = []
        self.experiments: list[str] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def traces(self) -> list[str]:
        """Ids of the traces in the order they came, one a root span."""
        return [span.trace_id.hex() for spans in self.batches for span in spans if not span.parent_span_id]

    def answer(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path.startswith("/api/2.0/mlflow/experiments/get-by-name"):
            return (200, {"experiment": {"experiment_id": "7"}}) if self.experiments else (404, {})
        if path == "/api/2.0/mlflow/experiments/create":
            self.experiments.append(json.loads(body)["name"])
            return 200, {"experiment_id": "7"}
        if path.endswith("/assessments"):
            self.assessments.append((path, json.loads(body)["assessment"]))
            return 200, {}
        assert path == "/v1/traces"
        assert headers["content-type"] == "application/x-protobuf"
        status = self.statuses.pop(0) if self.statuses else 200
        spans = spans_of(body)
        if any(span.trace_id.hex() == self.poison for span in spans):
            status = 422
        if status == 200:
            self.headers.append(headers)
            self.batches.append(spans)
        return status, {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve inside the block, each time on the same port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def _reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, value = receiver.answer(self.path, body, headers)
                said = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def do_GET(self) -> None:
                self._reply()

            def do_POST(self) -> None:
                self._reply()

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        worker = threading.Thread(target=server.serve_forever)
        worker.start()
        try:
            yield
        finally:
            server.shutdown()
            worker.join()
            server.server_close()
