"""What a browser gets: the page of the API and its files, headers that keep it safe, a true description."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from infra.records import Records
from models.answering.fake import POLICY, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.pages import FILES, HERE
from models.serving.runtime import Runtime
from models.types import Message
from tests.unit.test_gateway import CHUNKS, OLD, OPERATOR, QUESTION, SPEC, USER, running

ELSEWHERE = re.compile(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.IGNORECASE)


def broken(_: str, messages: Sequence[Message]) -> str:
    if "broken" in messages[-1].content:
        raise ZeroDivisionError("secret detail")
    return "14 days [1]"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    records = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    records.add_key("user-key", "user", "user", ["public"])
    records.add_key("operator-key", "operator", "operator", ["public", "staff"])
    records.place(OLD, "http://127.0.0.1:1", "m")
    records.promote(OLD, None)
    runtime = Runtime(lambda release, _: fake_pipeline(FakeEngine(broken), CHUNKS, release=release))
    async with running(create_app(records, runtime, SPEC, personal_data(POLICY).redact)) as opened:
        yield opened


@pytest.mark.parametrize("path", FILES)
async def test_pages_and_their_files_need_no_key(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert (reply.status_code, reply.content) == (200, FILES[path].read_bytes())
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"


async def test_no_other_file_can_be_read(client: httpx.AsyncClient) -> None:
    for path in ("/docs/../gateway.py", "/docs/%2e%2e/gateway.py", "/docs/swagger-ui.js", "/docs/", "/docs/docs.html"):
        assert (await client.get(path)).status_code in (307, 404)


@pytest.mark.parametrize("page", sorted(HERE.glob("*.html")), ids=lambda page: page.name)
def test_no_script_or_style_stands_in_a_page_and_nothing_comes_from_elsewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"<script[^>]*>[^<]", text) == []
    assert re.search(r"<style|\sstyle=|\son\w+=|javascript:", text) is None
    for file in (page, *HERE.glob("*.js"), *HERE.glob("*.css")):
        assert ELSEWHERE.findall(file.read_text("utf-8")) == []


def test_the_ask_page_makes_no_html_of_what_it_gets() -> None:
    script = (HERE / "ask.js").read_text("utf-8")
    makes = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser|srcdoc|localStorage|cookie"
    )
    assert re.findall(makes, script) == []
    assert "textContent" in script


async def test_every_response_has_the_safe_headers_and_none_lets_other_places_read_it(
    client: httpx.AsyncClient,
) -> None:
    asked = USER | {"origin": "https://elsewhere.example"}
    preflight = asked | {"access-control-request-method": "POST"}
    replies = [
        await client.get("/health", headers=asked),
        await client.get("/openapi.json", headers=asked),
        await client.get("/docs", headers=asked),
        await client.get("/nothing", headers=asked),
        await client.get("/v1/nothing"),
        await client.post("/v1/answers", json=QUESTION, headers=asked),
        await client.post("/v1/answers", json={}, headers=asked),
        await client.post("/v1/answers", json={"question": "broken?"}, headers=asked),
        await client.options("/v1/answers", headers=preflight),
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 404, 401, 200, 422, 500, 405]
    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "no-" in reply.headers["cache-control"]
        assert not [name for name in reply.headers if name.startswith("access-control-")]


async def test_the_description_names_key_errors_and_types_of_every_path(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert described["openapi"] == "3.0.3"  # what Swagger UI 4 reads
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert ("security" in operation) == path.startswith("/v1/")
            assert all("content" in reply for reply in operation["responses"].values()), path
            if path.startswith("/v1/"):
                assert {"401", "403", "404", "422", "429", "503"} <= set(operation["responses"])
    chat = described["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert set(chat["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "Retry-After" in chat["429"]["headers"]
    assert "500" not in str(list(chat))


async def test_the_description_has_nothing_of_openapi_3_1(client: httpx.AsyncClient) -> None:
    reply = await client.get("/openapi.json")
    validate(reply.json())
    assert '"const"' not in reply.text
    assert '"type":"null"' not in reply.text
    assert "HTTPValidationError" not in reply.text
    references = set(re.findall(r'"#/components/schemas/(\w+)"', reply.text))
    assert references == set(reply.json()["components"]["schemas"])


async def test_what_is_described_for_a_trace_is_what_is_sent(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["components"]["schemas"]["TraceBody"]
    answer = (await client.post("/v1/answers", json=QUESTION, headers=USER)).json()
    trace = (await client.get(f"/v1/traces/{answer['trace_id']}", headers=OPERATOR)).json()
    assert set(trace) == set(described["properties"]) == set(described["required"])
