"""The load of the bench: chats at planned times, every second one streamed, and the largest rate within a limit."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from evaluation.benches.gatewaying.peers import Target
from evaluation.loading.client import LoadClient, Reply
from evaluation.loading.generator import arrivals, until
from evaluation.loading.search import SearchSpec, Tried, next_level
from infra.errors import SetupError

QUESTION = "How long is the appeal period for bill {number} of a household, and to whom do we have to write about it?"
TIMEOUT_S = 60.0
LIMIT_MS = 50.0
SEARCH = SearchSpec(modes=("open",), first_rate_per_s=50, most_rate_per_s=4000, precision=0.08, steps=12, seconds=5)


@dataclass(frozen=True)
class Told:
    """Latencies at the client in milliseconds, counted from the planned time, so that queueing is in them."""

    latencies_ms: tuple[float, ...]
    streamed: tuple[bool, ...]
    errors: tuple[str, ...]
    seconds: float
    late_p99_ms: float
    """How late the load itself was."""

    def quantile(self, share: float, streamed: bool | None = None) -> float:
        """Of the requests without error: all, or only the streamed or whole ones."""
        wanted = [
            value for value, kind in zip(self.latencies_ms, self.streamed, strict=True) if streamed in (None, kind)
        ]
        if not wanted:
            raise SetupError(f"bench gateway: every request failed: {self.errors[:1]}")
        return float(np.quantile(wanted, share))

    @property
    def is_within(self) -> bool:
        """Whether there was no error and P99 is within the limit."""
        return not self.errors and self.quantile(0.99) <= LIMIT_MS


def body(target: Target, number: int) -> tuple[bytes, bool]:
    """(request, whether it asks for a stream)."""
    streamed = number % 2 == 1
    asked: dict[str, object] = {
        "model": target.model,
        "messages": [{"role": "user", "content": QUESTION.format(number=number)}],
        "max_tokens": 32,
    }
    if streamed:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(asked), streamed


class _Driver:
    """One run against one target."""

    def __init__(self, target: Target, first: int) -> None:
        self.client = LoadClient(target.base_url, target.key, needs_done=target.needs_done)
        self.target = target
        self.first = first
        self.latencies: list[float] = []
        self.streamed: list[bool] = []
        self.errors: list[str] = []
        self.late: list[float] = []

    async def send(self, number: int, planned: float) -> None:
        """One request, counted from `planned`."""
        request, streamed = body(self.target, self.first + number)
        self.late.append(time.perf_counter() - planned)
        reply: Reply = await self.client.chat(request, TIMEOUT_S, is_stream=streamed)
        if reply.error:
            self.errors.append(reply.error)
            return
        self.latencies.append(1000 * ((reply.ended_at or time.perf_counter()) - planned))
        self.streamed.append(streamed)

    async def open(self, rate: float, count: int) -> None:
        """Poisson arrivals; when far too many wait, the rest is not sent: the rate is not sustained."""
        begin = time.perf_counter() + 0.05
        async with asyncio.TaskGroup() as group:
            for number, at in enumerate(arrivals(count, rate, seed=self.first)):
                await until(begin + at)
                group.create_task(self.send(number, begin + at))

    async def closed(self, at_once: int, count: int) -> None:
        """So many in flight until all are answered."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self.send(number, time.perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    def told(self, seconds: float) -> Told:
        """What was measured."""
        self.client.close()
        return Told(
            latencies_ms=tuple(self.latencies),
            streamed=tuple(self.streamed),
            errors=tuple(self.errors),
            seconds=seconds,
            late_p99_ms=1000 * float(np.quantile(self.late, 0.99)),
        )


def _run(target: Target, first: int, load: Callable[[_Driver], object]) -> Told:
    import uvloop

    async def measure() -> Told:
        driver, begin = _Driver(target, first), time.perf_counter()
        work = load(driver)
        assert asyncio.iscoroutine(work), "a load is a coroutine"
        await work
        return driver.told(time.perf_counter() - begin)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure())


def open_load(target: Target, rate: float, seconds: float, first: int = 0) -> Told:
    """Arrivals at a rate for a time; `first` numbers the questions, so that no two runs ask the same."""
    return _run(target, first, lambda driver: driver.open(rate, max(20, round(rate * seconds))))


def closed_load(target: Target, at_once: int, count: int, first: int = 0) -> Told:
    """A number of requests with so many in flight."""
    return _run(target, first, lambda driver: driver.closed(at_once, count))


def largest_rate(target: Target, first: int, say: Callable[[str], None]) -> float:
    """The largest rate with P99 within the limit. Raises: SetupError where no rate is."""
    tried: list[Tried] = []
    while (level := next_level(tried, SEARCH, "open")[0]) is not None:
        told = open_load(target, level, SEARCH.seconds, first)
        first += round(level * SEARCH.seconds) + 20
        why = f"{len(told.errors)} errors" if told.errors else f"P99 {told.quantile(0.99):.1f} ms"
        say(f"{target.name}: {level:.0f} requests/s: {why}")
        tried.append(Tried(level=level, is_within=told.is_within, why=why))
    return best_level(tried, target.name)


def best_level(tried: Sequence[Tried], name: str) -> float:
    """The largest level within the limit. Raises: SetupError where there is none."""
    within = [step.level for step in tried if step.is_within]
    if not within:
        raise SetupError(f"bench gateway: {name} keeps P99 within {LIMIT_MS:g} ms at no rate that was tried")
    return max(within)
