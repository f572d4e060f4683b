"""Breakers over a clock of their own, chains over engines that fail by script, pools by the length of prompts."""

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from infra.errors import InputError, SetupError, SluiceError, TryAgainError
from infra.records import Placement
from models.serving.breaker import Breaker, BreakerSpec, RetryBudget
from models.serving.fake import FakeEngine
from models.serving.fallback import DEADLINE, Chain
from models.serving.pools import Place, in_order
from models.serving.routes import Engines, HostedSpec, places_of
from models.types import Message, Piece, Sampling

SPEC = BreakerSpec(window_s=10, failures=3, share=0.5, open_s=5, retry_share=0.1, backoff_s=0.001)
ASK = [Message(role="user", content="How deep is the lake?")]
DOWN = TryAgainError("down")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_breaker_opens_tries_once_and_closes() -> None:
    clock = Clock()
    breaker = Breaker(SPEC, clock)
    for _ in range(2):
        breaker.failed()
    assert (breaker.state, breaker.admits()) == ("closed", True)
    breaker.failed()
    assert (breaker.state, breaker.admits(), breaker.opened) == ("open", False, 1)
    clock.now += 5
    assert breaker.state == "half-open"
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.failed()
    assert (breaker.state, breaker.admits()) == ("open", False)
    clock.now += 5
    assert breaker.admits()
    breaker.left()  # the client went away: somebody else may try
    assert breaker.admits()
    breaker.succeeded()
    assert (breaker.state, breaker.admits(), breaker.opened) == ("closed", True, 1)


def test_breaker_looks_at_the_window_and_the_share() -> None:
    clock = Clock()
    breaker = Breaker(SPEC, clock)
    for _ in range(20):
        breaker.succeeded()
    for _ in range(3):
        breaker.failed()
    assert breaker.state == "closed"  # 3 of 23
    clock.now += 11
    for _ in range(2):
        breaker.failed()
    assert breaker.state == "closed"  # the first ones are out of the window
    breaker.failed()
    assert not breaker.admits()


@given(st.lists(st.tuples(st.sampled_from(["ask", "bad", "left"]), st.floats(0, 4)), max_size=60))
def test_open_breaker_lets_at_most_one_request_through_in_its_time(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    breaker = Breaker(SPEC, clock)
    for _ in range(3):
        breaker.failed()
    trial = False
    for step, seconds in steps:
        clock.now += seconds
        if step == "ask" and breaker.admits():
            assert breaker.state == "half-open"
            trial = True
        elif step == "bad" and trial:
            breaker.failed()
            assert not breaker.admits()
            trial = False
        elif step == "left" and trial:
            breaker.left()
            trial = False


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(0.1)
    taken = 0
    for _ in range(1000):
        budget.request()
        taken += budget.take()
    assert taken <= 0.1 * 1000 + RetryBudget.BURST
    assert taken >= 100
    assert not RetryBudget(0.0).take()


def test_prompts_go_to_the_shortest_pool_that_takes_them() -> None:
    short = [Place(pool="short", base_url=f"http://s{n}", model="m", max_prompt_tokens=100) for n in range(2)]
    long = Place(pool="long", base_url="http://l", model="m", max_prompt_tokens=1000)
    places = [long, *short]
    assert in_order(places, 100, 0) == [*short, long]
    assert in_order(places, 100, 1) == [short[1], short[0], long]
    assert in_order(places, 101, 0) == [long]
    assert in_order(places, 1001, 0) == [long]


class Opened:
    """Fake engines by address."""

    def __init__(self, **engines: FakeEngine) -> None:
        self.engines = engines
        self.keys: list[str] = []

    def __call__(self, base_url: str, timeout_s: float, pool: str, key: str) -> FakeEngine:
        self.keys.append(key)
        return self.engines[base_url.removeprefix("http://")]


class Broken(FakeEngine):
    """Breaks in the middle of a stream."""

    async def pieces(self, *args: object, **more: object) -> AsyncGenerator[Piece]:
        yield Piece()
        yield Piece("half ")
        raise TryAgainError("killed")


def chain(opened: Opened, *names: str, spec: BreakerSpec = SPEC, hosted: str = "") -> tuple[Engines, Chain]:
    model = HostedSpec(url=f"http://{hosted}/v1", model="large") if hosted else None
    engines = Engines(opened, spec, model, "secret")
    made = engines.chain([Place(pool=name, base_url=f"http://{name}", model=name) for name in names], 5)
    assert isinstance(made, Chain)
    return engines, made


async def told(engine: Chain) -> str:
    return (await engine.complete("m", ASK, Sampling(9))).text


async def test_next_replica_answers_and_the_answer_says_so() -> None:
    opened = Opened(a=FakeEngine("from a", [DOWN]), b=FakeEngine("from b"))
    _, engine = chain(opened, "a", "b")
    done = await engine.complete("m", ASK, Sampling(9))
    assert done.text == "from b"
    assert done.engine == "fake:b"
    assert [len(one.asked) for one in opened.engines.values()] == [1, 1]


async def test_the_only_engine_is_tried_again_within_budget_and_deadline() -> None:
    opened = Opened(a=FakeEngine("from a", [DOWN, None, DOWN]))
    _, engine = chain(opened, "a")
    assert await told(engine) == "from a"
    DEADLINE.set(time.monotonic())
    with pytest.raises(TryAgainError, match="down"):
        await told(engine)
    DEADLINE.set(math.inf)
    none = SPEC.model_copy(update={"retry_share": 0})
    with pytest.raises(TryAgainError, match="down"):
        await told(chain(Opened(a=FakeEngine("x", [DOWN])), "a", spec=none)[1])


async def test_what_is_wrong_with_the_request_is_not_asked_elsewhere() -> None:
    opened = Opened(a=FakeEngine("x", [InputError("too long")]), b=FakeEngine("x"))
    _, engine = chain(opened, "a", "b")
    with pytest.raises(InputError):
        await told(engine)
    assert opened.engines["b"].asked == []


async def test_a_small_model_that_fails_leaves_the_question_to_the_large_one() -> None:
    opened = Opened(s=FakeEngine("small", [None, DOWN, DOWN, DOWN]), l=FakeEngine("large"))
    engines = Engines(opened, SPEC)
    large = Place(base_url="http://l", model="l")
    places = [large, Place(pool="small", base_url="http://s", model="s")]
    small, plain = engines.small(places, 5), engines.chain(places, 5)
    seen = [(await small.engine.complete(small.name, ASK, Sampling(9))).engine for _ in range(5)]
    assert seen == ["fake:s", *["fake:l"] * 4], "three failures open the breaker, and the large one is asked at once"
    assert [len(opened.engines[name].asked) for name in "sl"] == [4, 4]
    assert (await plain.complete("", ASK, Sampling(9))).text == "large", "the large one never asks the small one"
    with pytest.raises(SetupError, match="placed without one"):
        engines.small([large], 5)


async def test_a_prompt_that_the_small_model_does_not_take_is_the_large_ones() -> None:
    too_long = InputError("prompt too long")
    opened = Opened(s=FakeEngine("x", [too_long] * 3), l=FakeEngine("large", [None, None, too_long]))
    places = [Place(base_url="http://l", model="l"), Place(pool="small", base_url="http://s", model="s")]
    small = Engines(opened, SPEC).small(places, 5)
    assert (await small.engine.complete(small.name, ASK, Sampling(9))).text == "large"
    assert "".join([piece.text async for piece in small.engine.pieces(small.name, ASK, Sampling(9))]) == "large"
    with pytest.raises(InputError, match="too long"):
        await small.engine.complete(small.name, ASK, Sampling(9))


async def test_hosted_model_comes_last_with_its_own_name_and_key() -> None:
    opened = Opened(a=FakeEngine("x", [DOWN] * 9), host=FakeEngine(lambda model, _: f"{model} here"))
    engines, engine = chain(opened, "a", hosted="host")
    assert [await told(engine) for _ in range(5)] == ["large here"] * 5
    assert opened.keys == ["", "secret"]
    asked = opened.engines["a"].asked
    assert len(asked) <= 4, "the breaker opened"
    registry = CollectorRegistry()
    registry.register(engines)
    page = generate_latest(registry).decode()
    assert 'sluice_breaker_state{address="http://a"} 1.0' in page
    assert 'sluice_engine_fallbacks_total{pool="hosted"} 5.0' in page


async def test_open_breaker_fails_fast_and_the_engine_comes_back() -> None:
    quick = SPEC.model_copy(update={"open_s": 0.05, "retry_share": 0})
    opened = Opened(a=FakeEngine("from a", [DOWN] * 3))
    _, engine = chain(opened, "a", spec=quick)
    for _ in range(3):
        with pytest.raises(TryAgainError, match="down"):
            await told(engine)
    with pytest.raises(TryAgainError, match="left alone"):
        await told(engine)
    assert len(opened.engines["a"].asked) == 3
    give_up = time.monotonic() + 5
    while time.monotonic() < give_up:
        try:
            assert await told(engine) == "from a"
            return
        except TryAgainError:
            continue
    raise AssertionError("never closed again")


@pytest.mark.parametrize("failures", [[DOWN], [DOWN, DOWN]])
async def test_stream_begins_anew_only_before_its_first_text(failures: Sequence[SluiceError]) -> None:
    opened = Opened(a=FakeEngine("x", failures), b=FakeEngine("from b"))
    _, engine = chain(opened, "a", "b")
    texts = [piece.text async for piece in engine.pieces("m", ASK, Sampling(9))]
    assert "".join(texts) == "from b"
    opened = Opened(a=Broken("x"), b=FakeEngine("from b"))
    _, engine = chain(opened, "a", "b")
    got = []
    with pytest.raises(TryAgainError, match="killed"):
        async with aclosing(engine.pieces("m", ASK, Sampling(9))) as pieces:
            async for piece in pieces:
                got.append(piece.text)
    assert (got, opened.engines["b"].asked) == (["half "], [])


async def test_stream_that_nobody_reads_to_its_end_is_no_failure() -> None:
    opened = Opened(a=FakeEngine("one two three"))
    _, engine = chain(opened, "a")
    for _ in range(9):
        async with aclosing(engine.pieces("m", ASK, Sampling(9))) as pieces:
            await anext(pieces)
    assert await told(engine) == "one two three"


def test_places_of_a_placement_with_and_without_pools() -> None:
    plain = Placement(release="a" * 64, base_url="http://a", model="m", updated=0.0)
    assert places_of(plain) == [Place(base_url="http://a", model="m")]
    pools = [
        Place(pool="short", base_url="http://s", model="m", max_prompt_tokens=9),
        Place(pool="long", base_url="http://l", model="m"),
    ]
    many = Placement(
        release="a" * 64, base_url="http://l", model="m", updated=0.0, pools=[place.model_dump() for place in pools]
    )
    assert places_of(many) == pools
