"""Answers in Redis, shared by the gateway's replicas: JSON values, and for each scope a stream of its questions."""

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from indexes.types import Vectors
from infra.settings import Spec
from models.serving.cache.entries import Entry, Place
from models.serving.cache.questions import Near, Questions
from models.serving.cache.spec import CacheSpec
from models.serving.cache.store import CacheStore

Reply = TypeVar("Reply")
LOG = logging.getLogger("sluice.gateway")
TIMEOUT_S = 0.25
REST_S = 1.0
"""How long Redis is left alone after a failure: its time-outs shall not add to every request."""
BATCH = 1000
"""Messages of a stream that are read at once."""
SCOPES = 10_000
"""Streams of which the place that was read to is remembered; a stream that was forgotten is read again."""


class Asked(Spec):
    """A question in a stream."""

    name: str
    question: str
    vector: str


class RedisStore(CacheStore):
    """An entry is a key that Redis lets expire. A scope's questions are appended to a stream, from which each replica
    reads what is new before it compares: the vectors lie in its own memory.

    `max_entries` bounds each stream, and the questions in memory; the whole is bounded by Redis (`maxmemory` with a
    policy such as allkeys-lru), so `evicted` stays 0. Redis away: every look-up is a miss, and counted in `faults`.
    """

    def __init__(
        self, url: str, spec: CacheSpec, prefix: str = "sluice:cache", clock: Callable[[], float] = time.time
    ) -> None:
        self.evicted = self.faults = 0
        self._redis = Redis.from_url(
            url, decode_responses=True, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._spec = spec
        self._prefix = prefix
        self._clock = clock
        self._rest_until = 0.0
        self._life_s = spec.ttl_s + spec.stale_s
        self._questions = Questions()
        self._held: OrderedDict[Place, None] = OrderedDict()  # what lies in _questions, oldest first
        self._read: OrderedDict[str, str] = OrderedDict()  # scope → id of the last message that was read

    async def get(self, place: Place) -> Entry | None:
        """See CacheStore. A value that is not an entry of this very place is a miss."""
        text = await self._ask(lambda: self._redis.get(self._key(place)))
        if text is None:
            return None
        try:
            entry = Entry.model_validate_json(text)
        except ValidationError:
            LOG.warning("cache: a value in Redis is not an answer; it is not given")
            self.faults += 1
            return None
        if (entry.scope, entry.name) != place:
            LOG.warning("cache: a value in Redis lies in another's place; it is not given")
            self.faults += 1
            return None
        return entry if self._clock() - entry.created <= self._life_s else None

    async def put(self, place: Place, entry: Entry) -> None:
        """See CacheStore."""
        life_ms = int(self._life_s * 1000)
        text = entry.model_dump_json()

        async def write() -> None:
            async with self._redis.pipeline(transaction=False) as batch:
                batch.set(self._key(place), text, px=life_ms)
                if entry.vector:
                    stream = self._stream(place.scope)
                    asked = entry.model_dump_json(include={"name", "question", "vector"})
                    batch.xadd(stream, {"asked": asked}, maxlen=self._spec.max_entries, approximate=True)
                    batch.pexpire(stream, life_ms)
                await batch.execute()

        if len(text) <= self._spec.max_mib * 2**20:
            await self._ask(write)

    async def near(self, scope: str, vector: Vectors, least: float) -> list[Near]:
        """See CacheStore."""
        await self._catch_up(scope)
        return self._questions.near(scope, vector, least)

    async def close(self) -> None:
        """See CacheStore: close the connections."""
        await self._redis.aclose()

    async def _catch_up(self, scope: str) -> None:
        """Read what replicas have appended to the scope's stream since the last look."""
        while True:
            messages = await self._ask(partial(self._appended, scope, self._read.get(scope, "0"))) or []
            for number, fields in messages:
                self._read[scope] = number
                self._hold(scope, fields.get("asked", ""))
            while len(self._read) > SCOPES:
                self._read.popitem(last=False)
            if len(messages) < BATCH:
                return

    async def _appended(self, scope: str, since: str) -> list[tuple[str, dict[str, str]]]:
        """Messages of a scope's stream after the id `since`, with their ids."""
        streams: Any = await self._redis.xread({self._stream(scope): since}, count=BATCH)
        return streams[0][1] if streams else []

    def _hold(self, scope: str, text: str) -> None:
        try:
            asked = Asked.model_validate_json(text)
            place = Place(scope, asked.name)
            self._questions.add(place, asked.question, asked.vector)
        except ValueError:
            LOG.warning("cache: a message in Redis is not a question; it is read over")
            self.faults += 1
            return
        self._held.pop(place, None)
        self._held[place] = None
        while len(self._held) > self._spec.max_entries:
            self._questions.remove(self._held.popitem(last=False)[0])

    async def _ask(self, call: Callable[[], Awaitable[Reply]]) -> Reply | None:
        """What Redis says; None while it is away, and for a second after each failure without asking it."""
        if time.monotonic() < self._rest_until:
            self.faults += 1
            return None
        try:
            return await call()
        except (RedisError, OSError) as error:
            LOG.warning("cache: Redis does not answer: %s", error)
            self.faults += 1
            self._rest_until = time.monotonic() + REST_S
            return None

    def _key(self, place: Place) -> str:
        return f"{self._prefix}:answer:{place.scope}:{place.name}"

    def _stream(self, scope: str) -> str:
        return f"{self._prefix}:asked:{scope}"
