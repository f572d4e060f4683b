"""An engine that is several: the pool that fits, other replicas, a second try, then a hosted model."""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from infra.errors import InputError, SluiceError, TryAgainError
from models.serving.breaker import Breaker, BreakerSpec, RetryBudget
from models.serving.pools import Place, in_order
from models.types import Completion, Engine, Message, Piece, Sampling

DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""Until when the request that is worked on has time, on the monotonic clock."""
Count = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class Link:
    """One engine of a chain."""

    place: Place
    engine: Engine
    breaker: Breaker


class Tally:
    """What the chains of a gateway count, for its metrics."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        """Pool → attempts that failed."""
        self.fallbacks: dict[str, int] = {}
        """Pool → answers that came from it because another one had failed or was left alone."""
        self.retries = 0

    @staticmethod
    def add(counts: dict[str, int], name: str) -> None:
        """One more."""
        counts[name] = counts.get(name, 0) + 1


class Chain(Engine):
    """Engine adapter that goes on to the next engine while nothing was handed on. See Engine.

    Own engines are tried once each, the one that fits the prompt best first, and behind them those of `then`: of the
    large model, where the others have the small one. Then the first of them is tried again after a short wait, where
    the budget of retries and the deadline allow it; then `hosted`, whose model is another one: the answer's `engine`
    says so. An engine whose breaker is open is passed over. What the engine says is wrong with the request (InputError)
    is final, but of the small model: the large one may take longer prompts. After the first text nothing is begun
    again: the failure is the caller's to tell.
    """

    def __init__(
        self,
        links: Sequence[Link],
        spec: BreakerSpec,
        budget: RetryBudget,
        tally: Tally,
        *,
        then: Sequence[Link] = (),
        hosted: Link | None = None,
        count: Count | None = None,
    ) -> None:
        assert links, "a chain has a link"
        self._links = {link.place: link for link in (*links, *then)}
        self._places = [link.place for link in links]
        self._then = [link.place for link in then]
        self._spec = spec
        self._budget = budget
        self._tally = tally
        self._hosted = hosted
        self._count = count
        self._turn = 0

    async def complete(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """See Engine."""
        failure: SluiceError | None = None
        async with aclosing(self._attempts(messages)) as attempts:
            async for link in attempts:
                try:
                    with self._told(link, again=failure is not None):
                        return await link.engine.complete(_name(link, model), messages, sampling)
                except (TryAgainError, InputError) as error:
                    if self._is_final(error, link):
                        raise
                    failure = error
        raise failure or self._none_left()

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        """See Engine. Events before the first text are kept back: until then all can begin anew."""
        failure: SluiceError | None = None
        async with aclosing(self._attempts(messages)) as attempts:
            async for link in attempts:
                begun = False
                stream = link.engine.pieces(_name(link, model), messages, sampling)
                try:
                    with self._told(link, again=failure is not None):
                        async with aclosing(stream):
                            async for piece in stream:
                                begun = begun or bool(piece.text or piece.finish_reason)
                                if begun:
                                    yield piece
                except (TryAgainError, InputError) as error:
                    if begun or self._is_final(error, link):
                        raise
                    failure = error
                else:
                    return
        raise failure or self._none_left()

    async def close(self) -> None:
        """Close every engine's client."""
        for link in (*self._links.values(), *([self._hosted] if self._hosted else [])):
            await link.engine.close()

    def _none_left(self) -> TryAgainError:
        addresses = ", ".join(sorted({place.base_url for place in self._links}))
        return TryAgainError(
            f"{addresses}: failed too often a moment ago, and is left alone for {self._spec.open_s:g} s"
        )

    async def _attempts(self, messages: Sequence[Message]) -> AsyncGenerator[Link]:
        """The links to try, one after the other as long as the caller asks for another."""
        self._budget.request()
        tried: Link | None = None
        for place in self._ordered(messages):
            link = self._links[place]
            if link.breaker.admits():
                tried = tried or link
                yield link
        if tried is not None and tried.breaker.state == "closed" and DEADLINE.get() > time.monotonic():
            wait = random.uniform(0, self._spec.backoff_s)  # noqa: S311  # no secret
            if time.monotonic() + wait < DEADLINE.get() and self._budget.take():
                await asyncio.sleep(wait)
                if tried.breaker.admits():
                    self._tally.retries += 1
                    yield tried
        if self._hosted is not None and self._hosted.breaker.admits():
            yield self._hosted

    def _is_final(self, error: SluiceError, link: Link) -> bool:
        return isinstance(error, InputError) and not (self._then and link.place in self._places)

    def _ordered(self, messages: Sequence[Message]) -> Sequence[Place]:
        if len(self._links) == 1:
            return self._places
        turn, self._turn = self._turn, self._turn + 1
        tokens = self._count(messages) if self._count else 0
        return [*in_order(self._places, tokens, turn), *(in_order(self._then, tokens, turn) if self._then else ())]

    @contextmanager
    def _told(self, link: Link, *, again: bool) -> Iterator[None]:
        """Tell the link's breaker and the tally how an attempt ended."""
        try:
            yield
        except TryAgainError:
            link.breaker.failed()
            self._tally.add(self._tally.failures, link.place.pool)
            raise
        except InputError:
            link.breaker.succeeded()
            raise
        except BaseException:
            link.breaker.left()
            raise
        else:
            link.breaker.succeeded()
            if again or link is self._hosted:
                self._tally.add(self._tally.fallbacks, link.place.pool)


def _name(link: Link, model: str) -> str:
    """A hosted model has a name of its own; a release's model is asked for as it is placed."""
    return link.place.model or model
