"""What a key may do at the gateway: its limits and money, its tenant's traces and ratings, one answer a request."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from infra.cost import TokenPrices
from infra.errors import PolicyError, TryAgainError
from infra.records import ApiKey, Records
from models.serving.fake import FakeEngine
from models.serving.limits import Limits, limits_of
from models.types import Message
from tests.live_gateway import QUESTION, SPEC, USER, in_process, make_app, open_records
from tests.redis_server import RedisServer

PRICES = TokenPrices(prompt=2.0, cached=0.5, completion=10.0)
LIMITED, OTHER, RIVAL = (
    {"authorization": f"Bearer {name}"} for name in ("limited-key", "other-key", "rival-operator-key")
)
OPERATOR = {"authorization": "Bearer operator-key"}
MESSAGES = {"messages": [{"role": "user", "content": QUESTION["question"]}]}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = open_records(tmp_path)
    opened.add_key("operator-key", "operator", "operator", ["public"])
    opened.add_key("other-key", "other", "user", ["public"], tenant="rival")
    opened.add_key("rival-operator-key", "rival", "operator", ["public"], tenant="rival")
    yield opened
    opened.close()


def limit(records: Records, **limits: float) -> None:
    records.add_key("limited-key", "limited", "user", ["public"], limits=limits)


async def ask(client: httpx.AsyncClient, headers: dict[str, str], question: str = "") -> httpx.Response:
    body = {"question": question} if question else QUESTION
    return await client.post("/v1/answers", json=body, headers=headers)


async def test_requests_of_a_minute(records: Records) -> None:
    limit(records, requests_per_minute=2)
    async with in_process(make_app(records)) as client:
        replies = [
            await ask(client, LIMITED),
            await client.post("/v1/chat/completions", json=MESSAGES, headers=LIMITED),
        ]
        refused = await ask(client, LIMITED)
        free = await ask(client, USER)
        metrics = (await client.get("/metrics")).text
    assert [reply.status_code for reply in replies] == [200, 200]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0"]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert replies[0].headers["x-ratelimit-reset-requests"] == "30.000s"
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert (refused.json()["error"]["type"], refused.json()["error"]["code"]) == (
        "rate_limit_error", "rate_limit_exceeded",
    )  # fmt: skip
    assert not any(name.startswith("x-ratelimit") for name in free.headers)
    assert 'sluice_request_errors_total{code="rate_limit_exceeded"} 1.0' in metrics


async def test_tokens_are_counted_as_they_were_used(records: Records) -> None:
    """A reservation of 5,000 tokens lets one question in at a time; what it did not use comes back."""
    limit(records, tokens_per_minute=6000)
    spec = SPEC.model_copy(update={"reserve_tokens": 5000})
    async with in_process(make_app(records, spec=spec)) as client:
        replies = [await ask(client, LIMITED) for _ in range(3)]
        await client.get("/v1/models", headers=LIMITED)
        wrong = await ask(client, LIMITED, " ")
        last = await ask(client, LIMITED)
    assert [reply.status_code for reply in [*replies, wrong, last]] == [200, 200, 200, 422, 200]
    used = sum(row.prompt_tokens + row.completion_tokens for row in records.traces()[:3])
    left = int(last.headers["x-ratelimit-remaining-tokens"])
    assert used > 100
    assert left >= 6000 - 5000 - used - 30, "the wrong question has cost nothing"
    assert left < 6000 - 5000


async def test_a_broken_request_keeps_its_reservation(records: Records) -> None:
    def broken(_: str, __: Sequence[Message]) -> str:
        raise ZeroDivisionError

    limit(records, tokens_per_minute=5100)
    spec = SPEC.model_copy(update={"reserve_tokens": 5000})
    async with in_process(make_app(records, FakeEngine(broken), spec)) as client:
        first, second = await ask(client, LIMITED), await ask(client, LIMITED)
    assert (first.status_code, second.status_code) == (500, 429)
    assert 0 < int(second.headers["retry-after"]) <= 60


async def test_money_of_a_day(records: Records) -> None:
    limit(records, money_per_day=0.00005)
    async with in_process(make_app(records, prices=PRICES)) as client:
        replies = [await ask(client, LIMITED) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]
    assert replies[1].json()["error"]["code"] == "insufficient_quota"
    assert 0 < int(replies[1].headers["retry-after"]) <= 86_400
    assert replies[1].headers["x-sluice-money-left"] == "0.000000"
    row = records.traces()[0]
    assert row.cost == pytest.approx((row.prompt_tokens * 2 + row.completion_tokens * 10) / 1e6)


def test_price_of_tokens_that_were_cached() -> None:
    assert PRICES.of(1000, 400, 50) == pytest.approx((600 * 2 + 400 * 0.5 + 50 * 10) / 1e6)


async def test_the_policys_limits_hold_where_a_key_has_none_of_its_own(records: Records) -> None:
    limit(records, requests_per_minute=3)
    spec = SPEC.model_copy(update={"limits": Limits(requests_per_minute=1, tokens_per_minute=10_000)})
    async with in_process(make_app(records, spec=spec)) as client:
        user = [await ask(client, USER) for _ in range(2)]
        own = [await ask(client, LIMITED) for _ in range(4)]
    assert [reply.status_code for reply in user] == [200, 429]
    assert [reply.status_code for reply in own] == [200, 200, 200, 429]
    assert own[0].headers["x-ratelimit-limit-tokens"] == "10000"


def test_limits_of_a_key_that_nobody_understands_are_an_error() -> None:
    key = ApiKey(digest="d" * 64, name="n", role="user", access=[], created=0.0, limits={"requests": 3})
    with pytest.raises(PolicyError, match="limits of the key dddddddddddd: requests"):
        limits_of(key, Limits())


async def test_two_replicas_share_the_limits_in_redis(records: Records, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    limit(records, requests_per_minute=4)
    try:
        one, other = (make_app(records, redis_url=server.url) for _ in range(2))
        async with in_process(one) as first, in_process(other) as second:
            replies = [await ask(client, LIMITED) for client in (first, second, first, second, first)]
            server.kill()
            alone = await ask(second, LIMITED)
            metrics = (await second.get("/metrics")).text
    finally:
        server.kill()
    assert [reply.status_code for reply in replies] == [200, 200, 200, 200, 429]
    assert alone.status_code == 200
    assert "sluice_limits_counted_alone_total 1.0" in metrics


async def test_an_idempotency_key_is_answered_once_a_caller(records: Records) -> None:
    engine = FakeEngine("14 days [1]")
    key = {"idempotency-key": "order-1"}
    async with in_process(make_app(records, engine)) as client:
        replies = await asyncio.gather(*(ask(client, USER | key) for _ in range(3)))
        changed = await ask(client, USER | key, "What is the appeal period, please?")
        streamed = await client.post("/v1/chat/completions", json=MESSAGES, headers=USER | key)
        other = await ask(client, OTHER | key, "Another question of another caller?")
        both = await ask(client, OPERATOR | key | {"x-sluice-request-key": "k"})
    assert len({reply.json()["trace_id"] for reply in replies}) == 1
    assert [reply.status_code for reply in [*replies, changed, streamed, other, both]] == [
        200,
        200,
        200,
        422,
        422,
        200,
        422,
    ]
    assert changed.json()["error"]["code"] == "idempotency_key_reused"
    assert other.json()["trace_id"] != replies[0].json()["trace_id"]
    assert len(engine.asked) == 2
    assert all("order-1" not in (row.request_key or "") + row.body_digest for row in records.traces())


async def test_a_failed_answer_is_made_again_under_its_idempotency_key(records: Records) -> None:
    engine = FakeEngine("14 days [1]", [TryAgainError("down")])
    async with in_process(make_app(records, engine)) as client:
        replies = [await ask(client, USER | {"idempotency-key": "k"}) for _ in range(3)]
    assert [reply.json()["degraded"] for reply in replies] == [True, False, False]
    assert replies[1].json() == replies[2].json()


async def test_a_tenants_traces_and_ratings_are_its_own(records: Records) -> None:
    async with in_process(make_app(records)) as client:
        trace_id = (await ask(client, USER)).json()["trace_id"]
        own = await client.get(f"/v1/traces/{trace_id}", headers=OPERATOR)
        rating = {"trace_id": trace_id, "rating": 1}
        foreign = [
            await client.get(f"/v1/traces/{trace_id}", headers=RIVAL),
            await client.post("/v1/feedback", json=rating, headers=RIVAL),
            await client.post("/v1/feedback", json=rating, headers=OTHER),
        ]
        unknown = [
            await client.get(f"/v1/traces/{'0' * 32}", headers=RIVAL),
            await client.post("/v1/feedback", json=rating | {"trace_id": "0" * 32}, headers=RIVAL),
            await client.post("/v1/feedback", json=rating | {"trace_id": "0" * 32}, headers=OTHER),
        ]
        rated = await client.post("/v1/feedback", json=rating, headers=USER)
    assert (own.status_code, rated.status_code) == (200, 200)
    assert own.json()["tenant"] == "default"
    for ours, theirs in zip(foreign, unknown, strict=True):
        assert ours.status_code == theirs.status_code == 404
        assert ours.text.replace(trace_id, "0" * 32) == theirs.text
        assert dict(ours.headers) == dict(theirs.headers)
    assert [row.rating for row in records.feedback(trace_id)] == [1]


async def test_a_gateway_that_stops_is_not_ready(records: Records) -> None:
    app = make_app(records)
    async with in_process(app) as client:
        await ask(client, USER)
        before = await client.get("/ready")
        app.state.answerer.draining = True
        after = await client.get("/ready")
        refused = await ask(client, USER)
    assert (before.status_code, after.status_code, refused.status_code) == (200, 503, 503)
    assert refused.headers["retry-after"]
    assert after.json() == {"ready": False, "reason": "the gateway is stopping"}
