"""The official `openai` client, unchanged, at the gateway behind a real socket: answers, streams, errors, retries."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from infra.errors import TryAgainError
from infra.records import Records
from models.serving.fake import FakeEngine
from models.serving.protocol import HttpSpec
from models.types import Engine
from tests.live_gateway import RELEASE, SPEC, behind_socket, make_app, open_records

HELLO: list[Any] = [{"role": "user", "content": "What is the appeal period?"}]
ONE = SPEC.model_copy(update={"max_in_flight": 1, "max_queued": 0, "retry_after_s": 2})


@pytest.fixture
def records(tmp_path: Path) -> Records:
    opened = open_records(tmp_path)
    opened.add_key("operator-key", "operator", "operator", ["public", "staff"])
    return opened


@asynccontextmanager
async def client_at(
    records: Records, engine: Engine | None = None, key: str = "user-key", retries: int = 0
) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        behind_socket(make_app(records, engine), HttpSpec()) as port,
        openai.AsyncOpenAI(api_key=key, base_url=f"http://127.0.0.1:{port}/v1", max_retries=retries) as client,
    ):
        yield client


async def test_an_answer_with_its_sources(records: Records) -> None:
    async with client_at(records) as client:
        whole = await client.chat.completions.with_raw_response.create(model="sluice", messages=HELLO)
    reply = whole.parse()
    assert reply.choices[0].message.content == "14 days [1]"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    extra = reply.model_extra or {}
    assert (extra["release"], extra["citations"][0]["document"]) == (RELEASE, "doc-1")
    assert whole.headers["x-sluice-trace"] == extra["trace_id"]


async def test_a_stream_with_its_end_and_usage(records: Records) -> None:
    async with client_at(records) as client:
        stream = await client.chat.completions.create(
            model="sluice", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "14 days [1]"
    ended = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert [chunk.choices[0].finish_reason for chunk in ended] == ["stop"]
    assert (ended[0].model_extra or {})["citations"][0]["document"] == "doc-1"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_the_stream_helper_of_the_client_ends_in_the_same_answer(records: Records) -> None:
    async with client_at(records) as client, client.chat.completions.stream(model="sluice", messages=HELLO) as stream:
        done = await stream.get_final_completion()
    assert done.choices[0].message.content == "14 days [1]"


async def test_the_models_that_a_caller_may_name(records: Records) -> None:
    async with client_at(records) as client:
        own = [model.id async for model in client.models.list()]
    async with client_at(records, key="operator-key") as client:
        every = [model.id async for model in client.models.list()]
        named = await client.chat.completions.create(model=RELEASE, messages=HELLO)
    assert own[0] == "sluice"
    assert RELEASE in set(every) - set(own)
    assert named.choices[0].message.content == "14 days [1]"


def test_the_client_that_does_not_wait_in_a_loop(records: Records) -> None:
    def ask(port: int) -> str | None:
        with openai.OpenAI(api_key="user-key", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:
            return client.chat.completions.create(model="sluice", messages=HELLO).choices[0].message.content

    async def serve() -> str | None:
        async with behind_socket(make_app(records), HttpSpec()) as port:
            return await asyncio.to_thread(ask, port)

    assert asyncio.run(serve()) == "14 days [1]"


async def test_errors_are_the_clients_own_exceptions(records: Records) -> None:
    async with client_at(records, key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await client.models.list()
    async with client_at(records) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(
                model="sluice", messages=HELLO, extra_headers={"X-Sluice-Release": RELEASE}
            )
        with pytest.raises(openai.NotFoundError) as lost:
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(openai.UnprocessableEntityError) as wrong:
            await client.chat.completions.create(model="sluice", messages=HELLO, n=2)
    records.move("production", None, expected=RELEASE)
    async with client_at(records) as client:
        with pytest.raises(openai.InternalServerError) as down:
            await client.chat.completions.create(model="sluice", messages=HELLO)
    assert (unknown.value.code, lost.value.code, wrong.value.code) == (
        "invalid_api_key", "model_not_found", "invalid_request",
    )  # fmt: skip
    assert (wrong.value.param, down.value.status_code, down.value.code) == ("n", 503, "no_release")


async def test_an_engine_that_fails_shows_as_a_degraded_answer_not_as_an_exception(records: Records) -> None:
    async with client_at(records, FakeEngine("x", [TryAgainError("http://127.0.0.1:9 is down")])) as client:
        reply = await client.chat.completions.create(model="sluice", messages=HELLO)
    assert "127.0.0.1:9" not in reply.model_dump_json()


async def test_the_client_waits_as_long_as_retry_after_says_and_then_gets_its_answer(records: Records) -> None:
    app = make_app(records, spec=ONE)
    full = app.state.answerer.admission.place()
    seen: list[tuple[int, float]] = []

    async def saw(response: Any) -> None:
        seen.append((response.status_code, time.monotonic()))
        if response.status_code == 429:
            await full.__aexit__(None, None, None)

    async with behind_socket(app, HttpSpec()) as port:
        await full.__aenter__()
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [saw]})
        address = f"http://127.0.0.1:{port}/v1"
        async with openai.AsyncOpenAI(api_key="user-key", base_url=address, max_retries=1, http_client=http) as client:
            reply = await client.chat.completions.create(model="sluice", messages=HELLO)
    assert reply.choices[0].message.content == "14 days [1]"
    assert [status for status, _ in seen] == [429, 200]
    assert seen[1][1] - seen[0][1] >= ONE.retry_after_s  # without the header it would try again within a second


async def test_without_retries_too_many_requests_are_a_rate_limit_error(records: Records) -> None:
    app = make_app(records, spec=ONE)
    async with behind_socket(app, HttpSpec()) as port, app.state.answerer.admission.place():
        address = f"http://127.0.0.1:{port}/v1"
        async with openai.AsyncOpenAI(api_key="user-key", base_url=address, max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as away:
                await client.chat.completions.create(model="sluice", messages=HELLO)
    assert (away.value.code, away.value.response.headers["retry-after"]) == ("overloaded", "2")
