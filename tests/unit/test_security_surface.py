"""What leaves the gateway beside answers: keys nowhere, no internals in errors, no call to an address of a client."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.errors import SetupError, SluiceError, TryAgainError
from infra.records import Records
from models.serving.fake import FakeEngine
from tests.live_gateway import QUESTION, RELEASE, in_process, make_app, open_records

KEY = "sk-4711-zulumarker-key"
WRONG = "sk-0815-yankeemarker-key"
OWN = {"authorization": f"Bearer {KEY}"}
INTERNALS = ("10.9.8.7", "/srv/models", "Traceback", "sqlite", 'File "', "psycopg", "ZeroDivisionError")
FETCHED = ("url", "uri", "href", "endpoint", "address", "host", "callback", "webhook")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    opened = open_records(tmp_path)
    opened.add_key(KEY, "someone", "operator", ["public"])
    return opened


def traffic(trace: str = "0" * 32) -> list[tuple[str, str, dict[str, Any] | None]]:
    messages = [{"role": "user", "content": "What is the appeal period?"}]
    return [
        ("POST", "/v1/answers", QUESTION),
        ("POST", "/v1/answers", {"question": ""}),
        ("POST", "/v1/answers", None),
        ("POST", "/v1/chat/completions", {"messages": messages}),
        ("POST", "/v1/chat/completions", {"messages": messages, "stream": True}),
        ("POST", "/v1/chat/completions", {"messages": messages, "model": "no-such"}),
        ("POST", "/v1/feedback", {"trace_id": trace, "rating": 1, "reason": "good"}),
        ("GET", f"/v1/traces/{trace}", None),
        ("GET", "/v1/models", None),
        ("GET", "/v1/nothing", None),
        ("GET", "/openapi.json", None),
        ("GET", "/docs", None),
        ("GET", "/metrics", None),
    ]


def files_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_key_is_never_written_down(
    records: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    def broken(_: str, __: object) -> str:
        raise ZeroDivisionError

    said = ""
    for engine in (FakeEngine("14 days [1]"), FakeEngine(broken), FakeEngine("x", [TryAgainError("down")] * 3)):
        async with in_process(make_app(records, engine)) as client:
            answer = await client.post("/v1/answers", json=QUESTION, headers=OWN | {"idempotency-key": KEY})
            trace = answer.json().get("trace_id", "0" * 32)
            for method, path, body in traffic(trace):
                for key in (KEY, WRONG):
                    reply = await client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})
                    said += reply.text + str(reply.headers)
    records.close()
    captured = capfd.readouterr()
    said += caplog.text + captured.out + captured.err
    kept = files_below(tmp_path)
    for marker in ("zulumarker", "yankeemarker"):
        assert marker not in said
        assert marker.encode() not in kept
    assert "appeal period" in kept.decode("latin-1")  # the files are those of this traffic


@pytest.mark.parametrize(
    "failure",
    [
        TryAgainError("http://10.9.8.7:8000 is down"),
        SetupError("/srv/models/secret.safetensors: not there"),
        ZeroDivisionError("Traceback of /srv/models"),
        OSError(2, "No such file", "/srv/models/x"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_errors_say_nothing_of_the_inside(records: Records, failure: Exception) -> None:
    def fail(_: str, __: object) -> str:
        raise failure

    engine = FakeEngine("x", [failure] * 20) if isinstance(failure, SluiceError) else FakeEngine(fail)
    async with in_process(make_app(records, engine)) as client:
        replies = [await client.request(method, path, json=body, headers=OWN) for method, path, body in traffic()]
    for reply in replies:
        if "/openapi.json" not in str(reply.url):
            assert not [word for word in INTERNALS if word in reply.text], reply.text


async def test_records_that_cannot_be_read_say_nothing_of_the_inside(records: Records, tmp_path: Path) -> None:
    async with in_process(make_app(records)) as client:
        with sqlite3.connect(tmp_path / "records.sqlite") as database:
            for table in ("api_keys", "pointers", "traces", "feedback"):
                database.execute(f"DROP TABLE {table}")
        replies = [await client.request(method, path, json=body, headers=OWN) for method, path, body in traffic()]
    for reply in replies:
        if "/openapi.json" not in str(reply.url):
            assert not [word for word in INTERNALS if word in reply.text], reply.text


@asynccontextmanager
async def bait() -> AsyncIterator[tuple[int, list[str]]]:
    """A port that notes who comes."""
    came: list[str] = []

    def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def test_no_request_makes_the_gateway_fetch_an_address(records: Records) -> None:
    async with bait() as (port, came):
        url = f"http://127.0.0.1:{port}/latest/meta-data"
        image = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": url}}}
        tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}
        asked = [{"role": "user", "content": url}]
        sent: list[tuple[str, dict[str, Any]]] = [
            ("/v1/answers", {"question": url}),
            ("/v1/answers", {"question": "x", "callback": url}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": image}]}),
            ("/v1/chat/completions", {"model": "sluice-chat", "messages": [{"role": "user", "content": image}]}),
            ("/v1/chat/completions", {"model": url, "messages": asked}),
            ("/v1/chat/completions", {"model": "sluice-chat", "messages": asked, "response_format": schema}),
            ("/v1/chat/completions", {"model": "sluice-chat", "messages": asked, "tools": [tool]}),
            ("/v1/feedback", {"trace_id": "0" * 32, "rating": 1, "correction": url, "reason": url}),
        ]
        headers = OWN | {
            "x-forwarded-host": url,
            "forwarded": f"host={url}",
            "referer": url,
            "origin": url,
            "host": "g",
        }
        async with in_process(make_app(records, FakeEngine('{"name":"f","arguments":{}}'))) as client:
            replies = [await client.post(path, json=body, headers=headers) for path, body in sent]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)  # the bait does notice who comes
        await reader.read()
        writer.close()
    assert len(came) == 1
    assert [reply.status_code for reply in replies[2:4]] == [422, 422]  # pictures are refused, not fetched
    assert all(reply.status_code < 500 for reply in replies)


async def test_no_field_of_a_request_is_an_address(records: Records) -> None:
    described = make_app(records).openapi()
    sent = {
        content["schema"]["$ref"].rpartition("/")[2]
        for methods in described["paths"].values()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    }
    schemas = described["components"]["schemas"]
    seen: set[str] = set()
    while sent - seen:
        name = (sent - seen).pop()
        seen.add(name)
        text = str(schemas[name])
        sent |= {other for other in schemas if f"#/components/schemas/{other}'" in text}
        fields = schemas[name].get("properties", {})
        assert not [field for field in fields for word in FETCHED if word in field.lower()], name
        assert "'format': 'uri'" not in text
    assert {"AnswerRequest", "ChatRequest", "TextPart"} <= seen


@pytest.mark.parametrize("release", [RELEASE, "../../etc/passwd", "%2e%2e%2f", "\x00", "a" * 300])
async def test_a_name_in_a_path_reaches_no_file(records: Records, release: str) -> None:
    async with in_process(make_app(records)) as client:
        ready = await client.get("/ready", params={"release": release})
        trace = await client.get(f"/v1/traces/{release.encode().hex()}", headers=OWN)
    assert ready.status_code in (200, 422, 503)
    assert trace.status_code == 404
    assert "root:" not in ready.text
