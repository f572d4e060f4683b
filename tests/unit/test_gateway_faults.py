"""The records or the engine away while the gateway serves: what goes on, and what says 503."""

from pathlib import Path
from typing import Any, cast

import pytest

from infra.errors import TryAgainError
from infra.records import Records
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.serving.cache.spec import CacheSpec
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.runtime import Runtime
from tests.live_gateway import until_ready
from tests.unit.test_gateway import OPERATOR, QUESTION, SPEC, USER, running

RELEASE = "a" * 64


class Leaving:
    """Records whose database can go away and come back: every call fails as the true one does then."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._records, name)
        if not callable(found):
            return found

        def call(*args: Any, **more: Any) -> Any:
            if self.is_away:
                raise TryAgainError("records: the database does not answer")
            return found(*args, **more)

        return call


@pytest.fixture
def records(tmp_path: Path) -> Leaving:
    opened = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    opened.add_key("user-key", "user", "user", ["public"])
    opened.add_key("operator-key", "operator", "operator", ["public"])
    opened.place(RELEASE, "http://127.0.0.1:1", "m")
    opened.promote(RELEASE, None)
    return Leaving(opened)


async def test_answers_go_on_and_traces_catch_up(records: Leaving) -> None:
    def build(release: str, _: object) -> Any:
        return fake_pipeline(FakeEngine("14 days [1]"), [chunk(1, "The appeal period is 14 days.")], release=release)

    kept = cast(Records, records)
    async with running(create_app(kept, Runtime(build), SPEC, personal_data(POLICY).redact)) as client:
        await until_ready(client)
        records.is_away = True
        during = [await client.post("/v1/answers", json=QUESTION, headers=USER) for _ in range(3)]
        assert [(reply.status_code, reply.json()["answer"]) for reply in during] == [(200, "14 days")] * 3
        assert (await client.post("/v1/answers", json=QUESTION, headers={"authorization": "x"})).status_code == 401
        assert (await client.get("/health")).status_code == 200
        once = {**OPERATOR, "x-sluice-request-key": "k1"}
        stored = await client.post("/v1/answers", json=QUESTION, headers=once)
        trace = await client.get(f"/v1/traces/{'0' * 32}", headers=OPERATOR)
        assert [reply.status_code for reply in (stored, trace)] == [503, 503]
        assert all("database" not in reply.text for reply in (stored, trace))
        records.is_away = False
    traces = records.traces()
    assert {reply.json()["trace_id"] for reply in during} <= {row.trace_id for row in traces}


async def test_where_no_engine_answers_the_last_answer_to_the_question_is_given(records: Leaving) -> None:
    engine = FakeEngine("14 days [1]", [None, TryAgainError("down"), TryAgainError("down")])
    chunks = [chunk(1, "The appeal period is 14 days.")]
    runtime, kept = Runtime(lambda release, _: fake_pipeline(engine, chunks, release=release)), cast(Records, records)
    cache = CacheSpec(exact=True, ttl_s=1e-6, stale_s=3600)
    async with running(create_app(kept, runtime, SPEC, personal_data(POLICY).redact, cache=cache)) as client:
        await until_ready(client)
        asks = [QUESTION, QUESTION, {"question": "What is the longest appeal period?"}]
        replies = [(await client.post("/v1/answers", json=ask, headers=USER)).json() for ask in asks]
        for reply in replies:
            await client.post("/v1/feedback", json={"trace_id": reply["trace_id"], "rating": 1}, headers=USER)
    assert [reply["answer"] for reply in replies] == ["14 days", "14 days", POLICY.fallback]
    assert len(engine.asked) == 3
    traces = {row.trace_id: row for row in records.traces()}
    assert traces[replies[1]["trace_id"]].cache == "stale"
    assert [bool(row.error) for row in sorted(traces.values(), key=lambda row: row.created)].count(True) == 2
