"""Streams through the gateway: no byte of a secret leaves, and a stream that a guard ended is no success anywhere."""

import json
import random
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.errors import TryAgainError
from infra.records import Placement, Records
from infra.settings import ROOT, Policy
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.answering.guards.output_policy import OutputPolicy
from models.answering.pipeline import Pipeline
from models.prompts import CANARY, DEFAULT, planted
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.runtime import Runtime
from models.types import Engine, Piece
from tests.live_gateway import RELEASE, SPEC, USER, in_process, open_records
from tests.unit.test_stream_guard import CLEAN, PLACES, SECRETS, SYSTEM, chunked, disguised

QUESTION = "What is the appeal period?"
TALK = {"model": "sluice-chat", "stream": True, "messages": [
    {"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION},
]}  # fmt: skip
STRICT = POLICY.model_copy(
    update={
        "max_answer_chars": 2000,
        "output": OutputPolicy(toxicity="refuse", system_prompt="refuse", system_prompt_words=6),
    }
)
CHUNKINGS = 100
"""Of each secret: more than 1,000 in all."""


class ScriptedEngine(FakeEngine):
    """Says what it is told in the pieces it is told, then fails if it is told so."""

    def __init__(self) -> None:
        super().__init__("")
        self.pieces_to_say: list[str] = []
        self.failure: TryAgainError | None = None
        self.said = 0

    async def pieces(self, *_: Any, **__: Any) -> AsyncGenerator[Piece]:
        """See Engine."""
        self.said = 0
        for text in self.pieces_to_say:
            self.said += 1
            yield Piece(text=text)
        if self.failure is not None:
            raise self.failure
        yield Piece(finish_reason="stop", prompt_tokens=7, completion_tokens=len(self.pieces_to_say))


def app_over(records: Records, engine: Engine, text: str = "The appeal period is 14 days. It costs 6.40 euros.") -> Any:
    def build(release: str, placement: Placement) -> Pipeline:
        return fake_pipeline(engine, [chunk(1, text)], release=release, policy=STRICT)

    return create_app(records, Runtime(build), SPEC, personal_data(STRICT).redact)


def texts(raw: str) -> str:
    """The text of a chat stream, as a client puts it together."""
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))


async def post(client: httpx.AsyncClient, body: dict[str, Any], path: str = "/v1/chat/completions") -> str:
    reply = await client.post(path, json=body, headers=USER)
    assert reply.status_code == 200
    return reply.text


@pytest.mark.parametrize("name", sorted(SECRETS.keys() - {"delimiter"}))
async def test_no_byte_of_a_secret_leaves_the_gateway(name: str, tmp_path: Path) -> None:
    secret = SECRETS[name][0]
    rng = random.Random(name)  # noqa: S311
    records, engine = open_records(tmp_path), ScriptedEngine()
    async with in_process(app_over(records, engine)) as client:
        for number in range(CHUNKINGS):
            place = rng.choice(PLACES)
            said = disguised(secret, rng) if number % 2 else secret
            text = f"{CLEAN[:place]} {said}{CLEAN[place:]}".strip()
            engine.pieces_to_say = list(text) if number < 2 else chunked(text, rng)
            raw = await post(client, TALK)
            sent = texts(raw)
            refused = sent == DEFAULT.refusal
            assert refused or text.startswith(sent)
            assert refused or len(sent) <= text.index(said)
            assert '"finish_reason":"content_filter"' in raw
            assert refused == ('"code":"content_filter"' not in raw)
            assert refused == raw.endswith("data: [DONE]\n\n")
        metrics = (await client.get("/metrics")).text
    rows = records.traces(limit=1000)
    assert len(rows) == CHUNKINGS
    assert {(row.finish_reason, row.unsafe) for row in rows} == {("content_filter", True)}
    assert all(row.refused or row.error for row in rows), "none is a success"
    assert 'outcome="answered"' not in metrics
    assert f'outcome="blocked"}} {CHUNKINGS}.0' in metrics


async def test_clean_text_arrives_complete(tmp_path: Path) -> None:
    rng = random.Random(5)  # noqa: S311
    engine = ScriptedEngine()
    async with in_process(app_over(open_records(tmp_path), engine)) as client:
        for number in range(CHUNKINGS):
            engine.pieces_to_say = list(CLEAN) if number == 0 else chunked(CLEAN, rng)
            raw = await post(client, TALK)
            assert texts(raw) == CLEAN
            assert raw.endswith("data: [DONE]\n\n")


def events_of(raw: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of each event of an answer's stream."""
    blocks = [block.split("\n") for block in raw.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_a_grounded_answer_streams_sentence_by_sentence(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.pieces_to_say = list("The appeal period is 14 days [1]. It costs 6.40 euros [1]. ")
    async with in_process(app_over(open_records(tmp_path), engine)) as client:
        events = events_of(await post(client, {"question": QUESTION, "stream": True}, "/v1/answers"))
        whole = (await client.post("/v1/answers", json={"question": QUESTION}, headers=USER)).json()
    names = [name for name, _ in events]
    assert names[-1] == "answer.done"
    assert names.count("answer.delta") == len(names) - 1 > 1
    said = "".join(data["text"] for name, data in events if name == "answer.delta")
    done = events[-1][1]
    assert said == done["answer"] == whole["answer"] == "The appeal period is 14 days. It costs 6.40 euros."
    assert done["citations"] == whole["citations"]


async def test_a_stream_that_a_guard_ended_counts_as_an_error_of_its_arm(tmp_path: Path) -> None:
    records, engine = open_records(tmp_path), ScriptedEngine()
    records.place("b" * 64, "http://127.0.0.1:1", "m")
    rollout = records.start_rollout(RELEASE, "b" * 64, "p", share=0.5)
    engine.pieces_to_say = [*"The appeal period is 14 days [1]. It costs nothing at all [1]. ", *["more "] * 100]
    async with in_process(app_over(records, engine)) as client:
        events = events_of(await post(client, {"question": QUESTION, "stream": True}, "/v1/answers"))
        whole = (await client.post("/v1/answers", json={"question": QUESTION}, headers=USER)).json()
    assert [name for name, _ in events][-1] == "error"
    error = events[-1][1]["error"]
    assert (error["code"], len(error["trace_id"])) == ("content_filter", 32)
    said = "".join(data["text"] for name, data in events if name == "answer.delta")
    assert "The appeal period is 14 days.".startswith(said)
    assert "nothing" not in json.dumps(events)
    assert whole["refused"], "a whole answer is never seen in part"
    row = next(row for row in records.traces() if row.trace_id == error["trace_id"])
    assert (row.answer, row.finish_reason, row.error) == (
        said, "content_filter", "guard_output: the stream was ended: grounding",
    )  # fmt: skip
    outcome = next(one for one in records.outcomes(rollout.id) if one.trace_id == error["trace_id"])
    assert outcome.error


async def test_a_guard_that_ends_a_stream_ends_the_engines_work(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.pieces_to_say = ["Call ", "me ", "at ", "anna@example.org ", "in ", "the ", "evening ", *["please "] * 500]
    async with in_process(app_over(open_records(tmp_path), engine)) as client:
        await post(client, TALK)
    assert engine.said < 20


async def test_an_engine_that_dies_behind_some_text_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    records, engine = open_records(tmp_path), ScriptedEngine()
    engine.pieces_to_say = ["All ", "offices ", "stay ", "open "]
    engine.failure = TryAgainError("http://10.0.0.1: gone")
    async with in_process(app_over(records, engine)) as client:
        raw = await post(client, TALK)
    assert '"code":"answer_broken"' in raw
    assert "10.0.0.1" not in raw
    assert not raw.endswith("[DONE]\n\n")
    row = records.traces()[0]
    assert (row.answer, row.finish_reason) == (texts(raw), "error")
    assert row.error.startswith("generate: ")


async def test_a_token_in_the_system_text_is_planted_and_never_leaves() -> None:
    engine = ScriptedEngine()
    pipeline = fake_pipeline(engine, [chunk(1, "The appeal period is 14 days.")])
    prompt = DEFAULT.model_copy(update={"system": f"Secret {CANARY}. Answer."})
    assert planted(DEFAULT, "x") is DEFAULT
    own = Pipeline(
        release=RELEASE, retriever=pipeline.retriever, engine=engine, model="m", prompt=prompt,
        guards=pipeline.guards, spec=pipeline.spec, count_tokens=pipeline.count_tokens,
    )  # fmt: skip
    assert own.planted[0] in own.prompt.system
    engine.pieces_to_say = [f"14 days {own.planted[0]} [1]"]
    answer = await own.answer(QUESTION, frozenset({"public"}))
    assert (answer.refused, answer.finish_reason) == (True, "content_filter")
    assert "leak" in [event.guard for event in answer.guards]


SAMPLE = ROOT / "infra" / "sample" / "cases" / "gate.jsonl"


async def test_over_the_samples_cases_what_streams_is_the_answer() -> None:
    policy = Policy(ROOT / "sluice.yaml").section("guards", type(POLICY))
    cases = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
    rng = random.Random(11)  # noqa: S311
    engine, checked = ScriptedEngine(), 0
    for case in cases:
        evidence = [piece for piece in case.get("evidence", ()) if piece]
        if not evidence:
            continue
        chunks = [chunk(number, text) for number, text in enumerate(evidence[:3], 1)]
        marks = "".join(f" [{number}]" for number in range(1, len(chunks) + 1))
        said = f"{case['answer']}{marks}" if case["answer"] else DEFAULT.refusal
        engine.pieces_to_say = chunked(said, rng)
        pipeline = fake_pipeline(engine, chunks, policy=policy.model_copy(update={"max_question_chars": 1000}))
        access = frozenset({"public"})
        whole = await pipeline.answer(case["question"], access)
        events = [event async for event in pipeline.stream(case["question"], access)]
        streamed = events[-1]
        assert not isinstance(streamed, str)
        assert "".join(event for event in events if isinstance(event, str)) == streamed.answer
        assert (streamed.answer, streamed.citations, streamed.refused) == (whole.answer, whole.citations, whole.refused)
        checked += 1
    assert checked > 200


async def test_json_that_does_not_meet_its_schema_is_asked_for_again_and_never_sent(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    body = {
        **TALK, "stream": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    }  # fmt: skip
    said = ['{"days": "many"}', '{"days": 1', '{"days": 14}', "nonsense", "nonsense", "nonsense"]
    engine = FakeEngine(lambda *_: said.pop(0))
    policy = STRICT.model_copy(update={"output": OutputPolicy(schema_retries=2)})

    def build(release: str, placement: Placement) -> Pipeline:
        return fake_pipeline(engine, [chunk(1, "x")], release=release, policy=policy)

    records = open_records(tmp_path)
    async with in_process(create_app(records, Runtime(build), SPEC, personal_data(policy).redact)) as client:
        good, bad = [(await client.post("/v1/chat/completions", json=body, headers=USER)).json() for _ in range(2)]
    assert (good["choices"][0]["message"]["content"], good["choices"][0]["finish_reason"]) == ('{"days": 14}', "stop")
    assert (bad["choices"][0]["message"]["content"], bad["choices"][0]["finish_reason"]) == (
        DEFAULT.refusal, "content_filter",
    )  # fmt: skip
    again = engine.asked[1].messages
    assert again[-2].content == '{"days": "many"}'
    assert "'many' is not of type 'integer'" in again[-1].content
    assert len(engine.asked) == 6
    assert good["usage"]["completion_tokens"] == 6, "every attempt is counted"
    events = [event["action"] for row in records.traces() for event in row.guards if event["guard"] == "schema"]
    assert sorted(events) == ["block", "flag", "flag", "flag", "flag"]
