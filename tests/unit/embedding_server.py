"""A real HTTP server that speaks the embedding part of the OpenAI protocol, and fails as it is told."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from indexes.fake import HashingEmbedder


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, EmbeddingServer)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append((self.path, dict(self.headers), body))
        status, headers, answer = server.next_answer(body)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Nothing on the console."""


Answer = tuple[int, dict[str, str], Any]
"""Status (0: the connection is dropped), headers, JSON body."""


class EmbeddingServer(ThreadingHTTPServer):
    """Vectors of HashingEmbedder, of length 3 and in reversed order; what is in `script` is answered first."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.script: deque[Answer] = deque()
        self.dies_after: int | None = None
        """Requests after which every connection is dropped."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_answer(self, body: dict[str, Any]) -> Answer:
        if self.dies_after is not None and len(self.requests) > self.dies_after:
            return 0, {}, None
        if self.script:
            return self.script.popleft()
        vectors = 3 * HashingEmbedder().passages(body["input"])
        rows = [{"index": index, "embedding": vector.tolist()} for index, vector in enumerate(vectors)]
        return 200, {"Content-Type": "application/json"}, {"data": rows[::-1], "model": body["model"]}

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that gave up is no news."""


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
