"""2,000 requests that schemathesis makes from the gateway's OpenAPI page, and hostile ones by hand: never a 500."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.records import Records
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.serving.answerer import GatewaySpec
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.runtime import Runtime

RELEASE = "a" * 64
BODIES = 2000
OPERATOR, USER = "Bearer operator-key", "Bearer user-key"
PATHS = [
    "/v1/answers",
    "/v1/models",
    "/v1/feedback",
    f"/v1/traces/{'0' * 32}",
    "/health",
    "/ready",
    "/metrics",
    "/docs",
]
SPEC = GatewaySpec(
    max_in_flight=4, max_queued=4, retry_after_s=1, request_timeout_s=5,
    max_body_bytes=65536, routing_max_age_s=0.5, trace_queue=10_000,
)  # fmt: skip
CHECKS = (status_code_conformance, content_type_conformance, response_schema_conformance)
"""What schemathesis asks of a response: a status, a type and a body that the page names. It names no 500."""
Headers = Mapping[str, str] | Mapping[bytes, bytes]
DETERMINISTIC = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


class Gateway:
    """The whole application in an event loop of its own; requests come from the test's thread."""

    def __init__(self, app: FastAPI, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self.app, self._portal, self._client = app, portal, client
        self.statuses: Counter[int] = Counter()

    def send(self, method: str, path: str, *, content: bytes = b"", headers: Headers | None = None) -> httpx.Response:
        """One request, as these bytes."""

        async def sent() -> httpx.Response:
            return await self._client.request(method, path, content=content, headers=headers)

        reply = self._portal.call(sent)
        self.statuses[reply.status_code] += 1
        return reply

    def play(self, case: Case[Any]) -> httpx.Response:
        """A case of schemathesis, prepared as its own client would."""
        asked = requests.Request(**case.as_transport_kwargs(base_url="http://g"))
        made = requests.Session().prepare_request(asked)
        body = made.body or b""
        assert isinstance(body, bytes | str)
        body = body if isinstance(body, bytes) else body.encode()
        headers = {name: value if isinstance(value, str) else value.decode() for name, value in made.headers.items()}
        return self.send(str(made.method), str(made.url), content=body, headers=headers)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    records = Records.open(f"sqlite:///{folder / 'records.sqlite'}")
    records.add_key("user-key", "user", "user", ["public"])
    records.add_key("operator-key", "operator", "operator", ["public", "staff"])
    records.place(RELEASE, "http://127.0.0.1:1", "m")
    records.promote(RELEASE, None)
    chunks = [chunk(1, "The appeal period is 14 days.")]
    engine = FakeEngine("14 days [1]")
    runtime = Runtime(lambda release, _: fake_pipeline(engine, chunks, release=release))
    personal = personal_data(POLICY)
    personal.warm()
    app = create_app(records, runtime, SPEC, personal.redact)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with start_blocking_portal() as portal:
        client = httpx.AsyncClient(transport=transport, base_url="http://g")
        with (
            portal.wrap_async_context_manager(app.router.lifespan_context(app)),
            portal.wrap_async_context_manager(client),
        ):
            yield Gateway(app, portal, client)
    records.close()


def fuzz(gateway: Gateway, operation: Any, mode: GenerationMode, examples: int) -> None:
    @seed(5)
    @settings(DETERMINISTIC, max_examples=examples)
    @given(case=operation.as_strategy(generation_mode=mode), key=st.sampled_from([USER, OPERATOR]))
    def run(case: Case[Any], key: str) -> None:
        case.headers["Authorization"] = key
        case.validate_response(gateway.play(case), checks=list(CHECKS))

    run()


def test_two_thousand_bodies_made_from_the_page_get_what_it_says(gateway: Gateway) -> None:
    schema = schemathesis.openapi.from_dict(gateway.app.openapi())
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    writing = [operation for operation in operations if operation.body]
    for operation in writing:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            fuzz(gateway, operation, mode, -(-BODIES // len(writing) // 2))
    assert gateway.statuses.total() >= BODIES
    for operation in operations:
        if operation not in writing:
            fuzz(gateway, operation, GenerationMode.POSITIVE, 50)
    assert {200, 422} <= set(gateway.statuses) <= {200, 400, 401, 403, 404, 413, 422, 503, 504}


TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\0\r\n"), max_size=300)
HEADERS = st.dictionaries(
    st.sampled_from([
        "x-sluice-release", "x-sluice-request-key", "authorization", "idempotency-key", "accept",
        "accept-encoding", "content-length", "content-type", "cookie", "expect", "forwarded", "host",
        "if-none-match", "range", "traceparent", "transfer-encoding", "x-forwarded-for", "x-forwarded-host",
        "x-http-method-override", "x-original-url",
    ]),
    TEXT,
    max_size=6,
)  # fmt: skip


@seed(5)
@settings(DETERMINISTIC, max_examples=300)
@given(path=st.sampled_from(PATHS), headers=HEADERS, method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD"]))
def test_no_header_makes_it_fail(gateway: Gateway, path: str, headers: dict[str, str], method: str) -> None:
    given = {b"authorization": USER.encode()}
    given |= {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    reply = gateway.send(method, path, content=b'{"question": "x"}', headers=given)
    assert reply.status_code < 500 or (path, reply.status_code) == ("/ready", 503)


HOSTILE = {
    "nested arrays": b"[" * 60_000,
    "nested objects": b'{"question":' * 5_000,
    "a long number": b'{"question": ' + b"9" * 60_000 + b"}",
    "not a number": b'{"question": NaN}',
    "half a surrogate": rb'{"question": "\ud800"}',
    "half a surrogate as a name": rb'{"question": "x", "\udfff": 1}',
    "a null character": rb'{"question": "\u0000"}',
    "null characters around": rb'{"question": "a\u0000b", "session": "\u0000"}',
    "twice the same field": b'{"question": "x", "question": {"y": 1}}',
    "not UTF-8": b'{"question": "\xff\xfe"}',
    "UTF-16": '{"question": "x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"question": "x"}',
    "nothing": b"",
    "a bare text": b'"question"',
    "a line end in a session": rb'{"question": "x", "session": "a\r\nX-Evil: 1"}',
    "hidden characters only": '{"question": "\u200b\u2060\U000e0041"}'.encode(),
    "a name with line ends": rb'{"question": "x", "a\r\nb": 1}',
}


@pytest.mark.parametrize("path", ["/v1/answers", "/v1/chat/completions", "/v1/feedback"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_get_an_error_of_ours(gateway: Gateway, path: str, name: str) -> None:
    headers = {"authorization": OPERATOR, "content-type": "application/json"}
    reply = gateway.send("POST", path, content=HOSTILE[name], headers=headers)
    assert reply.status_code in (200, 400, 422)
    if reply.status_code != 200:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert all(len(value) < 500 and "\n" not in value for value in reply.headers.values())
