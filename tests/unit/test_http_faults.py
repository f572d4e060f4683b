"""Faults of HTTP against a real socket: slow, large, deep and broken requests, idle connections, clients that leave."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.logs import OneLine
from infra.records import Records
from models.serving.entrance import deeper_than
from models.serving.fake import FakeEngine
from models.serving.protocol import HttpSpec
from tests.live_gateway import QUESTION, SPEC, USER, WaitingEngine, behind_socket, make_app, open_records, until_ready

HTTP = HttpSpec(
    header_timeout_s=0.3, body_timeout_s=0.3, max_header_bytes=8192, max_connections=20, max_json_depth=16
)  # fmt: skip
SPEC_HTTP = SPEC.model_copy(update={"http": HTTP})
PATIENT = HttpSpec(max_json_depth=16)
POST = b"POST /v1/answers HTTP/1.1\r\nhost: g\r\nauthorization: Bearer user-key\r\ncontent-type: application/json\r\n"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = open_records(tmp_path)
    yield opened
    opened.close()


def calling(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)


async def exchange(port: int, *parts: bytes) -> bytes:
    """What the server sends until it closes the connection, after these bytes and nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    return said


def whole(body: bytes) -> bytes:
    return POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 2000, 400),
        (b'{"question":' * 300 + b"1" + b"}" * 300, 400),
        (b'{"question": "x", "session": ' + b"[" * 17 + b"]" * 17 + b"}", 400),
        (b"{", 422),
        (b"", 422),
        (b"null", 422),
        (b'{"question": "\xff\xfe"}', 422),
        (b'{"question": "\\ud800"}', 422),
        (b'{"question": NaN}', 422),
        (b'{"question": ' + b"1" * 3000 + b"}", 422),
        (b'{"question": "x", "session": "a\\r\\nset-cookie: b"}', 422),
        (b'{"question": "x", "session": "\\u0000"}', 422),
        (b"x" * 5000, 413),
    ],
)
async def test_broken_bodies_are_the_clients_fault(records: Records, body: bytes, status: int) -> None:
    async with behind_socket(make_app(records, spec=SPEC_HTTP), HTTP) as port:
        said = await exchange(port, whole(body))
    head, _, content = said.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
    assert b"set-cookie" not in head


def test_depth_counts_brackets_outside_of_strings_only() -> None:
    text = json.dumps({"a": ['[[[[{{{{\\"[[[['] * 3, "b": "]]"}).encode()
    assert not deeper_than(text, 2)
    assert deeper_than(text, 1)
    assert not deeper_than(b'"' + b"[" * 100, 3)
    assert not deeper_than(b"[]" * 100, 3)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n\r\n", 408),
        (b"POST /v1/answers HTTP/1.1\r\nhost: g\r\nx-slow: 1", 408),
        (POST + b"content-length: 100\r\n\r\n{", 408),
        (POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", 408),
        (b"GET / HTTP/1.1\r\n" + b"x-a: b\r\n" * 4000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
    ],
)
async def test_who_does_not_send_a_request_in_time_is_let_go(records: Records, sent: bytes, status: int | None) -> None:
    async with behind_socket(make_app(records, spec=SPEC_HTTP), HTTP) as port:
        said = await exchange(port, sent)
    if status is None:
        assert said == b""
    else:
        assert int(said.split()[1]) == status, said
        assert said.count(b"HTTP/1.1 ") == 1


async def test_many_idle_connections_keep_nobody_out(records: Records) -> None:
    patient = HTTP.model_copy(update={"header_timeout_s": 60})
    async with behind_socket(make_app(records, spec=SPEC_HTTP), patient) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        async with calling(port) as client:
            replies = [await client.post("/v1/answers", json=QUESTION, headers=USER) for _ in range(3)]
        async with asyncio.timeout(20):
            closed = await asyncio.gather(*(reader.read() for reader, _ in idle[:40]), return_exceptions=True)
        for _, writer in idle:
            writer.close()
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert len(closed) == 40, "the oldest were closed"


@pytest.mark.parametrize("path", ["/v1/answers", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_engines_work(records: Records, path: str, stream: bool) -> None:
    engine = WaitingEngine()
    body: dict[str, object] = dict(QUESTION)
    if path != "/v1/answers":
        body = {"messages": [{"role": "user", "content": QUESTION["question"]}], "stream": stream}
    async with behind_socket(make_app(records, engine), PATIENT) as port:
        content = json.dumps(body).encode()
        head = POST.replace(b"/v1/answers", path.encode())
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"content-length: %d\r\n\r\n" % len(content) + content)
        async with asyncio.timeout(20):
            await engine.asked_now.wait()
            writer.close()
            await engine.called_off.wait()
    assert [row.error for row in records.traces()] == ["the client left"]


async def test_a_deadline_ends_the_engines_work(records: Records) -> None:
    engine = WaitingEngine()
    async with behind_socket(make_app(records, engine), PATIENT) as port, calling(port) as client:
        await until_ready(client)
        reply = await client.post("/v1/answers", json=QUESTION, headers=USER | {"x-sluice-deadline-ms": "1000"})
        wrong = await client.post("/v1/answers", json=QUESTION, headers=USER | {"x-sluice-deadline-ms": "-1"})
        large = await client.post("/v1/answers", json=QUESTION, headers=USER | {"x-sluice-deadline-ms": "9" * 400})
    assert engine.called_off.is_set()
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
    assert (wrong.status_code, large.status_code) == (422, 422)
    assert [row.error for row in records.traces()] == ["timeout"]


async def test_a_body_says_that_it_is_json_and_a_wrong_header_is_named(records: Records) -> None:
    content = json.dumps(QUESTION).encode()
    async with behind_socket(make_app(records, FakeEngine("14 days [1]")), PATIENT) as port, calling(port) as client:
        await until_ready(client)
        replies = [
            await client.post("/v1/answers", content=content, headers=USER | given)
            for given in (
                {"content-type": "Application/JSON; charset=utf-8"},
                {"content-type": "application/merge-patch+json"},
                {"content-type": "text/plain"},
                {},
                {"content-type": "application/json", "x-sluice-release": "none"},
            )
        ]
        broken = await client.post(
            "/v1/answers", content=b'{"question": ', headers=USER | {"content-type": "application/json"}
        )
        missing = await client.post("/v1/answers", content=b"{}", headers=USER | {"content-type": "application/json"})
        empty = await client.post("/v1/answers", headers=USER | {"content-type": "application/json"})
    assert [reply.status_code for reply in replies] == [200, 200, 422, 422, 422]
    assert "Content-Type: application/json" in replies[2].json()["error"]["message"]
    assert replies[4].json()["error"]["param"] == "x-sluice-release"
    assert [reply.status_code for reply in (broken, missing, empty)] == [422, 422, 422]
    assert missing.json()["error"]["param"] == "question"
    assert "JSON" in broken.json()["error"]["message"]


async def test_a_deadline_holds_in_the_queue(records: Records) -> None:
    """The second request waits for the place of the first: its time ends there, and the engine never hears of it."""
    engine = WaitingEngine()
    app = make_app(records, engine, SPEC.model_copy(update={"max_in_flight": 1}))
    async with behind_socket(app, PATIENT) as port, calling(port) as client:
        first = asyncio.create_task(client.post("/v1/answers", json=QUESTION, headers=USER))
        async with asyncio.timeout(60):
            await engine.asked_now.wait()
        engine.asked_now.clear()
        second = await client.post("/v1/answers", json=QUESTION, headers=USER | {"x-sluice-deadline-ms": "300"})
        assert app.state.answerer.admission.inside == 1
        first.cancel()
        await asyncio.wait([first])
        async with asyncio.timeout(20):
            await engine.called_off.wait()
    assert (second.status_code, engine.asked_now.is_set()) == (504, False)


async def test_no_input_forges_a_log_line_or_shows_a_key(records: Records, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("forged\r\n2026-01-01 ERROR all is lost")

    caplog.set_level(logging.DEBUG)
    records.add_key("user-key-with-limits", "limited", "user", ["public"], limits={"requests_per_minute": 1})
    async with behind_socket(make_app(records, FakeEngine(broken)), PATIENT) as port:
        async with calling(port) as client:
            replies = [
                await client.post("/v1/answers", json=QUESTION, headers=USER),
                await client.post("/v1/answers", json=QUESTION, headers={"authorization": "Bearer user-key-wrong"}),
                await client.post("/v1/answers", content=b"{", headers=USER),
                await client.get("/v1/models", headers=USER),
                await client.get("/v1/%0d%0aERROR%20forged", headers=USER),
                await client.get("/v1/models?api_key=user-key", headers=USER),
                *[
                    await client.get("/v1/models", headers={"authorization": "Bearer user-key-with-limits"})
                    for _ in range(2)
                ],
            ]
        await exchange(port, POST.replace(b"HTTP/1.1", b"HTP") + b"\r\n")
    assert [reply.status_code for reply in replies] == [500, 401, 422, 200, 404, 200, 200, 429]
    shown = "".join(f"{reply.text} {reply.headers}" for reply in replies)
    assert "user-key" not in shown
    formatter = OneLine("%(levelname)s %(name)s %(message)s")
    own = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    lines = "\n".join(formatter.format(record) for record in own).splitlines()
    assert any("ZeroDivisionError" in line for line in lines)
    assert not any(line.startswith(("2026", "ERROR forged")) for line in lines)
    assert "user-key" not in "\n".join(lines)
