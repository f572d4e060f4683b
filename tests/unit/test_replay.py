"""The simulated user against the project's gateway: keys, ratings, both arms, the stop, and a gateway that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from evaluation.replay import GatewayClient, Reply, is_right, replay
from infra.errors import InputError, SluiceError, TryAgainError
from infra.records import Placement, Records
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.answering.pipeline import Pipeline
from models.serving.answerer import GatewaySpec
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.runtime import Runtime
from models.types import Case

OLD, NEW = "a" * 64, "b" * 64
ARMS = (OLD, NEW)
CHUNKS = [chunk(1, "The appeal period is 14 days."), chunk(2, "The fee is 30 euros.")]
CASES = [
    *(Case(id=f"c-{n}", question="What is the appeal period?", answer="14 days", session=f"s-{n}") for n in range(5)),
    Case(id="no", question="Who is the mayor?", expected="refusal"),
]
SPEC = GatewaySpec(
    max_in_flight=8, max_queued=8, retry_after_s=1, request_timeout_s=5,
    max_body_bytes=4096, routing_max_age_s=0.01, trace_queue=100,
)  # fmt: skip


@pytest.fixture
def records(tmp_path: Path) -> Records:
    opened = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    opened.add_key("key", "operator", "operator", ["public"])
    for release in ARMS:
        opened.place(release, "http://127.0.0.1:1", "m")
    opened.promote(OLD, None)
    return opened


@asynccontextmanager
async def gateway(records: Records, engines: dict[str, FakeEngine]) -> AsyncIterator[GatewayClient]:
    def build(release: str, placement: Placement) -> Pipeline:
        return fake_pipeline(engines[release], CHUNKS, release=release)

    app = create_app(records, Runtime(build), SPEC, personal_data(POLICY).redact)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://g") as http:
        yield GatewayClient(http, "key")


async def go_on(done: int) -> bool:
    return False


def engines() -> dict[str, FakeEngine]:
    return {OLD: FakeEngine("14 days [1]"), NEW: FakeEngine("30 euros [2]")}


async def test_both_arms_answer_and_are_rated_by_the_reference(records: Records) -> None:
    rollout = records.start_rollout(OLD, NEW, "p", share=0.01)
    seen: list[int] = []

    async def look(done: int) -> bool:
        seen.append(done)
        return False

    async with gateway(records, engines()) as client:
        assert await replay(client, CASES, rollout.id, ARMS, look, batch=4) == len(CASES)
    assert seen == [4, 6]
    mirrored = [one for one in records.outcomes(rollout.id) if not (one.request_key or "").startswith("live:")]
    assert sorted((one.arm, one.request_key) for one in mirrored) == sorted(
        (arm, f"{rollout.id[:16]}:{case.id}") for arm in ("baseline", "canary") for case in CASES
    )
    rated = {(one.arm, (one.request_key or "").split(":")[1]): one.rating for one in mirrored}
    assert {rated["baseline", case.id] for case in CASES[:5]} == {1}
    assert {rated["canary", case.id] for case in CASES[:5]} == {-1}
    assert all(feedback.simulated for one in mirrored for feedback in records.feedback(one.trace_id))
    live = [trace for trace in records.traces() if (trace.request_key or "").startswith("live:")]
    assert [(trace.request_key or "").split(":")[2] for trace in live] == ["c-0", "c-4"]
    assert not any(records.feedback(trace.trace_id) for trace in live)


async def test_a_replay_that_was_killed_repeats_nothing(records: Records) -> None:
    rollout = records.start_rollout(OLD, NEW, "p", share=0.01)
    served = engines()

    async def stop(done: int) -> bool:
        return True

    async with gateway(records, served) as client:
        assert await replay(client, CASES, rollout.id, ARMS, stop, batch=2) == 2
    asked, first = len(served[OLD].asked) + len(served[NEW].asked), records.outcomes(rollout.id)
    async with gateway(records, served) as client:
        assert await replay(client, CASES[:2], rollout.id, ARMS, go_on, batch=2) == 2
    again = records.outcomes(rollout.id)
    assert len(served[OLD].asked) + len(served[NEW].asked) == asked
    assert [(one.trace_id, one.rating) for one in again] == [(one.trace_id, one.rating) for one in first]
    other = records.rollout(rollout.id)
    assert other is not None
    assert (other.state, other.share) == ("RUNNING", 0.01)


async def test_no_case_is_no_replay(records: Records) -> None:
    async with gateway(records, engines()) as client:
        assert await replay(client, [], "r", ARMS, go_on) == 0


@pytest.mark.parametrize(
    ("case", "answer", "refused", "right"),
    [
        (CASES[0], "14 days", False, True),
        (CASES[0], "The 14 days.", False, True),
        (CASES[0], "15 days", False, False),
        (CASES[0], "", True, False),
        (CASES[-1], "I do not know.", True, True),
        (CASES[-1], "Anna", False, False),
    ],
)
def test_the_thumb_follows_the_gates_rule(case: Case, answer: str, refused: bool, right: bool) -> None:
    reply = Reply(answer=answer, refused=refused, release=OLD, trace_id="0" * 32, latency_ms=1.0)
    assert is_right(case, reply) is right


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (429, TryAgainError, "gateway is busy"),
        (503, TryAgainError, "gateway is busy"),
        (401, InputError, "refused /v1/answers: 401"),
        (422, InputError, "refused /v1/answers: 422"),
    ],
)
async def test_what_the_gateway_refuses(status: int, kind: type[SluiceError], says: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text="no"))
    async with httpx.AsyncClient(transport=transport, base_url="http://g") as http:
        with pytest.raises(kind, match=says):
            await replay(GatewayClient(http, "key"), CASES, "r", ARMS, go_on)


async def test_a_gateway_that_is_away() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as http:
        with pytest.raises(TryAgainError, match=r"127\.0\.0\.1:9.*is it running \(`sluice status`\)"):
            await asyncio.wait_for(replay(GatewayClient(http, "key"), CASES, "r", ARMS, go_on), 20)
