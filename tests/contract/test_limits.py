"""Contract of the ledger of limits, in this process and in Redis: what is let in, what is left, what is given back."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.serving.limits import DAY, Ledger, Limits, Need, OwnLedger, Standing
from models.serving.redis_ledger import AWAY_S, RedisLedger, SteadyLedger
from tests.redis_server import RedisServer

START = 20_000 * DAY
ONE = Need(1)


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = START + 60.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(params=["own", "redis"])
async def ledger(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Ledger]:
    if request.param == "own":
        yield OwnLedger(clock)
        return
    shared = RedisLedger(request.getfixturevalue("server").url, clock, prefix=f"{uuid.uuid4()}:")
    yield shared
    await shared.close()


async def test_requests_of_a_minute_come_back_evenly(ledger: Ledger, clock: Clock) -> None:
    limits = Limits(requests_per_minute=6)
    let_in = [await ledger.take("k", limits, ONE) for _ in range(6)]
    assert [round(standing.requests) for standing in let_in] == [5, 4, 3, 2, 1, 0]
    refused = await ledger.take("k", limits, ONE)
    assert refused.refused == "requests"
    assert refused.retry_after_s == pytest.approx(10)
    assert (await ledger.take("other", limits, ONE)).refused == ""
    clock.now += 9.9
    assert (await ledger.take("k", limits, ONE)).retry_after_s == pytest.approx(0.1, abs=1e-6)
    clock.now += 0.1
    assert (await ledger.take("k", limits, ONE)).refused == ""
    assert (await ledger.take("k", limits, ONE)).refused == "requests"


async def test_tokens_are_settled_and_a_need_above_the_limit_waits_for_all_of_it(ledger: Ledger, clock: Clock) -> None:
    limits = Limits(tokens_per_minute=600)
    assert (await ledger.take("k", limits, Need(1, 500))).tokens == pytest.approx(100)
    assert (await ledger.take("k", limits, Need(1, 200))).refused == "tokens"
    await ledger.settle("k", limits, Need(0, -400))
    assert (await ledger.take("k", limits, Need(1, 200))).tokens == pytest.approx(300)
    huge = await ledger.take("k", limits, Need(1, 5000))
    assert huge.refused == "tokens"
    assert huge.retry_after_s == pytest.approx(30)
    clock.now += 30
    assert (await ledger.take("k", limits, Need(1, 5000))).refused == ""
    await ledger.settle("k", limits, Need(0, 100))
    assert (await ledger.take("k", limits, Need(1, 1))).retry_after_s > 400, "what was taken beyond the limit is owed"


async def test_money_of_a_day_comes_back_at_midnight(ledger: Ledger, clock: Clock) -> None:
    limits = Limits(money_per_day=1.0)
    assert (await ledger.take("k", limits, Need(1, 10, 0.6))).money == pytest.approx(0.4)
    await ledger.settle("k", limits, Need(0, 0, 0.4))
    refused = await ledger.take("k", limits, Need(1, 10, 0.1))
    assert refused.refused == "money"
    assert refused.retry_after_s == pytest.approx(DAY - 60)
    clock.now = START + DAY
    assert (await ledger.take("k", limits, Need(1, 10, 0.1))).refused == ""


async def test_many_at_once_get_no_more_than_is_there(ledger: Ledger) -> None:
    limits = Limits(requests_per_minute=20)
    standings = await asyncio.gather(*(ledger.take("k", limits, ONE) for _ in range(60)))
    assert sum(not standing.refused for standing in standings) == 20


async def test_redis_decides_as_this_process_does(server: RedisServer, clock: Clock) -> None:
    """2,000 random steps of random limits: both ledgers say the same."""
    chance = np.random.default_rng(5)
    own, shared = OwnLedger(clock), RedisLedger(server.url, clock, prefix=f"{uuid.uuid4()}:")
    some = [Limits(), Limits(requests_per_minute=30), Limits(tokens_per_minute=900, money_per_day=2.0)]
    some.append(Limits(requests_per_minute=10, tokens_per_minute=500, money_per_day=0.5))
    for _ in range(2000):
        clock.now += float(chance.choice([0, 0, 0.3, 2, 15, 4000]))
        key, limits = str(chance.choice(["a", "b"])), some[chance.integers(len(some))]
        if chance.random() < 0.3:
            more = Need(0, int(chance.integers(-300, 300)), chance.uniform(-0.1, 0.1))
            await own.settle(key, limits, more)
            await shared.settle(key, limits, more)
            continue
        need = Need(1, int(chance.integers(700)), chance.uniform(0, 0.2))
        ours, theirs = await own.take(key, limits, need), await shared.take(key, limits, need)
        assert ours.refused == theirs.refused
        assert _figures(ours) == pytest.approx(_figures(theirs), abs=1e-4)
    await shared.close()


def _figures(standing: Standing) -> tuple[float, ...]:
    return standing.retry_after_s, standing.requests, standing.tokens, standing.money


async def test_redis_counts_by_its_own_clock(server: RedisServer) -> None:
    shared = RedisLedger(server.url, prefix=f"{uuid.uuid4()}:")
    limits = Limits(requests_per_minute=1)
    assert (await shared.take("k", limits, ONE)).refused == ""
    refused = await shared.take("k", limits, ONE)
    await shared.close()
    assert refused.refused == "requests"
    assert 0 < refused.retry_after_s <= 60


async def test_limits_hold_while_redis_is_away_and_are_shared_again_when_it_is_back(tmp_path: Path) -> None:
    server, clock, faults = RedisServer(tmp_path), Clock(), list[None]()
    server.start()
    limits = Limits(requests_per_minute=5)
    ledger = SteadyLedger(RedisLedger(server.url), lambda: faults.append(None), clock)
    try:
        for _ in range(2):
            assert not (await ledger.take("k", limits, ONE)).refused
        assert faults == []
        server.kill()
        for _ in range(3):
            assert not (await ledger.take("k", limits, ONE)).refused
        await ledger.settle("k", limits, Need(0, 5))
        assert (await ledger.take("k", limits, ONE)).refused == "requests", "what came before the fault counts"
        assert (len(faults), ledger.away) == (4, True)
        server.start()
        clock.now += AWAY_S
        assert (await ledger.take("k", limits, ONE)).requests == pytest.approx(4), "a Redis that began anew counts anew"
        assert (len(faults), ledger.away) == (4, False)
    finally:
        await ledger.close()
        server.kill()
