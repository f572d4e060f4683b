"""The gateway over ASGI: keys, both interfaces, split, idempotency, limits, errors, feedback, traces."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from infra.errors import TryAgainError
from infra.records import Placement, Records
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.answering.pipeline import Pipeline
from models.prompts import DEFAULT
from models.serving.answerer import GatewaySpec
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.runtime import Runtime
from models.training.feedback import FeedbackSpec, rated_answers, rows_of_feedback
from models.training.rows import PreferenceRow, TrainingRow
from models.types import Engine, Message, Piece, Sampling
from tests.live_gateway import until_ready

OLD, NEW = "a" * 64, "b" * 64
CHUNKS = [
    chunk(1, "The appeal period is 14 days."),
    chunk(2, "The private phone of Anna is 555-0134.", access=("staff",)),
]
QUESTION = {"question": "What is the appeal period?"}
SPEC = GatewaySpec(
    max_in_flight=2, max_queued=1, retry_after_s=3, request_timeout_s=5,
    max_body_bytes=2048, routing_max_age_s=0.01, trace_queue=100,
)  # fmt: skip
USER = {"authorization": "Bearer user-key"}
OPERATOR = {"authorization": "Bearer operator-key"}
Open = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    opened = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    opened.add_key("user-key", "user", "user", ["public"])
    opened.add_key("operator-key", "operator", "operator", ["public", "staff"])
    for release in (OLD, NEW):
        opened.place(release, "http://127.0.0.1:1", "m")
    opened.promote(OLD, None)
    return opened


class SlowEngine(FakeEngine):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__("14 days [1]")
        self.go, self.full = asyncio.Event(), asyncio.Event()
        self.waiting = 0

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        self.waiting += 1
        if self.waiting == SPEC.max_in_flight:
            self.full.set()
        await self.go.wait()
        pieces = super().pieces(model, messages, sampling)
        async for piece in pieces:
            yield piece


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://g") as client:
        yield client


@pytest.fixture
def gateway(records: Records) -> Open:
    def start(engine: Engine | None = None, spec: GatewaySpec = SPEC) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        served = engine or FakeEngine("14 days [1]")

        def build(release: str, placement: Placement) -> Pipeline:
            return fake_pipeline(served, CHUNKS, release=release)

        return running(create_app(records, Runtime(build), spec, personal_data(POLICY).redact))

    return start


async def test_an_answer_with_citations_release_and_trace(gateway: Open, records: Records) -> None:
    async with gateway() as client:
        reply = await client.post("/v1/answers", json=QUESTION | {"session": "s-1"}, headers=USER)
        body = reply.json()
        trace = (await client.get(f"/v1/traces/{body['trace_id']}", headers=OPERATOR)).json()
    assert reply.status_code == 200
    assert set(body) == {
        "answer", "citations", "confidence", "refused", "release", "trace_id", "latency_ms", "arm", "degraded",
    }  # fmt: skip
    assert (body["answer"], body["refused"], body["release"], body["arm"]) == ("14 days", False, OLD, "production")
    assert body["citations"] == [
        {"number": 1, "document": "doc-1", "chunk": "chunk-1", "title": "Guide", "text": CHUNKS[0].text}
    ]
    assert reply.headers["x-sluice-release"] == OLD
    assert reply.headers["x-sluice-trace"] == body["trace_id"]
    assert (trace["answer"], trace["citations"], trace["arm"]) == ("14 days", [1], "production")
    assert [span["name"] for span in trace["spans"]][:2] == ["guard_input", "retrieve"]


async def test_the_openai_form(gateway: Open) -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": [{"type": "text", "text": "What is the appeal period?"}]},
    ]
    async with gateway() as client:
        reply = await client.post("/v1/chat/completions", json={"model": "sluice", "messages": messages}, headers=USER)
        body = reply.json()
        listed = (await client.get("/v1/models", headers=OPERATOR)).json()
        own = (await client.get("/v1/models", headers=USER)).json()
        named = await client.post("/v1/chat/completions", json={"model": NEW, "messages": messages}, headers=OPERATOR)
        refused = await client.post("/v1/chat/completions", json={"model": NEW, "messages": messages}, headers=USER)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "14 days [1]"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert (body["release"], body["citations"][0]["document"]) == (OLD, "doc-1")
    assert [model["id"] for model in listed["data"]] == ["sluice", "sluice-chat", OLD, NEW]
    assert [model["id"] for model in own["data"]] == ["sluice", "sluice-chat"]
    assert (named.json()["release"], refused.status_code) == (NEW, 404)


async def test_the_openai_stream(gateway: Open) -> None:
    body = {
        "model": "sluice",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "What is the appeal period?"}],
    }
    async with gateway() as client:
        reply = await client.post("/v1/chat/completions", json=body, headers=USER)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in reply.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line[6:]) for line in lines[:-1]]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert text == "14 days [1]"
    last = events[-2]
    assert (last["choices"][0]["finish_reason"], last["release"], last["trace_id"]) == (
        "stop", OLD, reply.headers["x-sluice-trace"],
    )  # fmt: skip
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic user-key"}])
async def test_nobody_gets_in_without_a_key(gateway: Open, headers: dict[str, str]) -> None:
    async with gateway() as client:
        reply = await client.post("/v1/answers", content="not even json", headers=headers)
        assert (await client.get("/health")).json() == {"status": "ok"}
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "question"),
        ({"question": ""}, "question"),
        ({"question": " \u200b "}, "question"),
        ({"question": "x" * 201}, "question"),
        ({"question": "x", "sesion": "typo"}, "sesion"),
    ],
)
async def test_bad_questions_are_422_and_leave_no_trace(
    gateway: Open, records: Records, body: dict[str, str], param: str
) -> None:
    async with gateway() as client:
        reply = await client.post("/v1/answers", json=body, headers=USER)
    assert (reply.status_code, reply.json()["error"]["param"]) == (422, param)
    assert records.traces() == []


async def test_other_wrong_requests(gateway: Open) -> None:
    async with gateway() as client:
        large = await client.post("/v1/answers", json={"question": "x" * 3000}, headers=USER)
        chunked = await client.post("/v1/answers", content=_pieces(), headers=USER)
        broken = await client.post("/v1/answers", content="{", headers=USER)
        silent = await client.post("/v1/chat/completions", json={"messages": [{"role": "system"}]}, headers=USER)
        lost = await client.get("/v1/nothing", headers=USER)
        forced = await client.post("/v1/answers", json=QUESTION, headers=USER | {"x-sluice-release": NEW})
        keyed = await client.post("/v1/answers", json=QUESTION, headers=USER | {"x-sluice-request-key": "k"})
        peek = await client.get(f"/v1/traces/{'0' * 32}", headers=USER)
        missing = await client.get(f"/v1/traces/{'0' * 32}", headers=OPERATOR)
        unserved = await client.post("/v1/answers", json=QUESTION, headers=OPERATOR | {"x-sluice-release": "c" * 64})
    replies = [large, chunked, broken, silent, lost, forced, keyed, peek, missing, unserved]
    assert [reply.status_code for reply in replies] == [413, 413, 422, 422, 404, 403, 403, 403, 404, 404]
    assert all(set(reply.json()["error"]) == {"message", "type", "param", "code"} for reply in replies)


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(5):
        yield b"x" * 1000


async def test_no_release_is_503(gateway: Open, records: Records) -> None:
    records.move("production", None, expected=OLD)
    async with gateway() as client:
        reply = await client.post("/v1/answers", json=QUESTION, headers=USER)
        ready = await client.get("/ready")
    assert (reply.status_code, reply.json()["error"]["code"], ready.status_code) == (503, "no_release", 503)


async def test_the_split_is_sticky_and_follows_the_records_without_restart(gateway: Open, records: Records) -> None:
    async def arms(client: httpx.AsyncClient) -> dict[str, str]:
        found = {}
        for number in range(24):
            body = QUESTION | {"session": f"s-{number}"}
            found[f"s-{number}"] = (await client.post("/v1/answers", json=body, headers=USER)).json()["arm"]
        return found

    async with gateway() as client:
        assert set((await arms(client)).values()) == {"production"}
        rollout = records.start_rollout(OLD, NEW, "p", share=0.5)
        await asyncio.sleep(2 * SPEC.routing_max_age_s)
        first, second = await arms(client), await arms(client)
        assert first == second
        assert set(first.values()) == {"baseline", "canary"}
        records.finish_rollout(rollout.id, "ROLLED_BACK", "test")
        await asyncio.sleep(2 * SPEC.routing_max_age_s)
        assert set((await arms(client)).values()) == {"production"}
    outcomes = records.outcomes(rollout.id)
    assert len(outcomes) == 48
    assert {(one.arm, one.release) for one in outcomes} == {("baseline", OLD), ("canary", NEW)}


async def test_a_request_key_is_answered_once_a_release(gateway: Open, records: Records) -> None:
    rollout = records.start_rollout(OLD, NEW, "p", share=0.01)
    engine = FakeEngine("14 days [1]")
    headers = OPERATOR | {"x-sluice-request-key": "q-1", "x-sluice-release": OLD}
    async with gateway(engine) as client:
        replies = await asyncio.gather(*(client.post("/v1/answers", json=QUESTION, headers=headers) for _ in range(3)))
        again = await client.post("/v1/answers", json=QUESTION, headers=headers)
        other = await client.post("/v1/answers", json=QUESTION, headers=headers | {"x-sluice-release": NEW})
    assert len({reply.json()["trace_id"] for reply in [*replies, again]}) == 1
    assert again.json()["citations"] == replies[0].json()["citations"]
    assert other.json()["trace_id"] != again.json()["trace_id"]
    assert len(engine.asked) == 2
    assert [(one.request_key, one.arm) for one in records.outcomes(rollout.id)] == [
        ("q-1", "baseline"),
        ("q-1", "canary"),
    ]


async def test_a_stored_answer_survives_a_restart(gateway: Open, records: Records) -> None:
    headers = OPERATOR | {"x-sluice-request-key": "q-1"}
    async with gateway() as client:
        first = await client.post("/v1/answers", json=QUESTION, headers=headers)
    engine = FakeEngine("never asked")
    async with gateway(engine) as client:
        second = await client.post("/v1/answers", json=QUESTION, headers=headers)
    assert first.json() == second.json()
    assert engine.asked == []


async def test_too_many_at_once_are_sent_away(gateway: Open) -> None:
    engine = SlowEngine()
    async with gateway(engine, SPEC.model_copy(update={"request_timeout_s": 60})) as client:
        posts = [asyncio.create_task(client.post("/v1/answers", json=QUESTION, headers=USER)) for _ in range(3)]
        async with asyncio.timeout(30):
            await engine.full.wait()
            while "sluice_requests_inside 3.0" not in (await client.get("/metrics")).text:
                continue  # the third one is not at the queue yet
        away = await client.post("/v1/answers", json=QUESTION, headers=USER)
        metrics = (await client.get("/metrics")).text
        engine.go.set()
        replies = await asyncio.gather(*posts)
    assert (away.status_code, away.headers["retry-after"]) == (429, "3")
    assert away.json()["error"]["type"] == "rate_limit_error"
    assert "sluice_requests_inside 3.0" in metrics
    assert [reply.status_code for reply in replies] == [200, 200, 200]


async def test_a_request_that_takes_too_long_counts_as_an_error_of_its_arm(gateway: Open, records: Records) -> None:
    async with gateway(SlowEngine(), SPEC.model_copy(update={"request_timeout_s": 0.05})) as client:
        reply = await client.post("/v1/answers", json=QUESTION, headers=USER)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
    assert [(row.error, row.answer) for row in records.traces()] == [("timeout", "")]


async def test_an_engine_failure_degrades_and_tells_no_internals(gateway: Open, records: Records) -> None:
    async with gateway(FakeEngine("x", [TryAgainError("http://127.0.0.1:9999 is down")])) as client:
        reply = await client.post("/v1/answers", json=QUESTION, headers=USER)
    assert (reply.status_code, reply.json()["answer"], reply.json()["degraded"]) == (200, POLICY.fallback, True)
    assert "9999" not in reply.text
    assert "9999" in records.traces()[0].error


async def test_a_bug_is_500_without_internals_and_counts(gateway: Open, records: Records) -> None:
    def broken(_: str, __: Sequence[Message]) -> str:
        raise ZeroDivisionError("secret detail")

    async with gateway(FakeEngine(broken)) as client:
        reply = await client.post("/v1/answers", json=QUESTION, headers=USER)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in reply.text
    assert [row.error for row in records.traces()] == ["unexpected failure"]


async def test_feedback_is_kept_redacted(gateway: Open, records: Records) -> None:
    async with gateway() as client:
        trace_id = (await client.post("/v1/answers", json=QUESTION, headers=USER)).json()["trace_id"]
        body = {"trace_id": trace_id, "rating": -1, "correction": "ask a@example.org", "simulated": True}
        kept = await client.post("/v1/feedback", json=body, headers=USER)
        unknown = await client.post("/v1/feedback", json=body | {"trace_id": "0" * 32}, headers=USER)
        wrong = await client.post("/v1/feedback", json=body | {"rating": 0}, headers=USER)
    assert [reply.status_code for reply in (kept, unknown, wrong)] == [200, 404, 422]
    assert [(row.rating, row.correction, row.simulated) for row in records.feedback(trace_id)] == [
        (-1, "ask <EMAIL_ADDRESS>", True)
    ]


async def test_a_correction_sent_to_the_gateway_becomes_a_row_to_learn(gateway: Open, records: Records) -> None:
    async with gateway(FakeEngine("The passages do not say.")) as client:
        trace_id = (await client.post("/v1/answers", json=QUESTION, headers=USER)).json()["trace_id"]
        body = {"trace_id": trace_id, "rating": -1, "correction": "14 days"}
        assert (await client.post("/v1/feedback", json=body, headers=USER)).status_code == 200
    made = rows_of_feedback(rated_answers(records, simulated=False), DEFAULT, lambda _: False, FeedbackSpec())
    row, pair = (one.row for one in made.rows)
    assert isinstance(row, TrainingRow)
    assert isinstance(pair, PreferenceRow)
    assert row.messages[-1].content == pair.chosen
    assert (pair.chosen.partition(" [")[0], pair.rejected) == ("14 days", DEFAULT.refusal)
    assert row.messages[:-1] == pair.prompt
    assert QUESTION["question"] in pair.prompt[-1].content


async def test_what_is_written_down_is_redacted_and_flushed(gateway: Open, records: Records) -> None:
    question = {"question": "Is 555-0134 the private phone of Anna, a@example.org?"}
    async with gateway(FakeEngine("14 days [1]")) as client:
        for _ in range(20):
            await client.post("/v1/answers", json=question, headers=OPERATOR | {"x-sluice-release": OLD})
    rows = records.traces()
    assert len(rows) == 20, "all are stored when the gateway has stopped"
    stored = json.dumps([(row.question, row.answer, row.passages, row.error) for row in rows])
    assert "555-0134" not in stored
    assert "a@example.org" not in stored
    assert "<PHONE_NUMBER>" in stored


async def test_pipelines_are_ready_before_traffic_and_metrics_count(gateway: Open, records: Records) -> None:
    async with gateway() as client:
        await until_ready(client)
        records.start_rollout(OLD, NEW, "p", share=0.01)
        await until_ready(client, NEW)
        await client.post("/v1/answers", json=QUESTION, headers=OPERATOR | {"x-sluice-release": NEW})
        metrics = (await client.get("/metrics")).text
    assert 'sluice_answers_total{arm="canary",outcome="answered"} 1.0' in metrics
    assert 'sluice_answer_seconds_count{arm="canary"} 1.0' in metrics
