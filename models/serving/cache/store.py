"""Port of the places where answers are kept, and the one inside the process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from indexes.types import Vectors
from models.serving.cache.entries import Entry, Place
from models.serving.cache.questions import Near, Questions
from models.serving.cache.spec import CacheSpec

MIB = 2**20


class CacheStore(Protocol):
    """Port: place → answer. What is older than `ttl_s` + `stale_s` is gone; errors never leave: they are misses.

    `evicted` counts what had to go for want of room, `faults` the calls that failed.
    """

    evicted: int
    faults: int

    async def get(self, place: Place) -> Entry | None: ...

    async def put(self, place: Place, entry: Entry) -> None:
        """Keep the entry in place of what lay there."""
        ...

    async def near(self, scope: str, vector: Vectors, least: float) -> list[Near]:
        """Questions of this scope that are kept with a vector and are as similar as `least`, most similar first."""
        ...

    async def close(self) -> None: ...


class MemoryStore(CacheStore):
    """Answers in the memory of this process: the one that was used longest ago goes first."""

    def __init__(self, spec: CacheSpec, clock: Callable[[], float] = time.time) -> None:
        self.evicted = self.faults = 0
        self.bytes = 0
        self._spec = spec
        self._clock = clock
        self._entries: OrderedDict[Place, Entry] = OrderedDict()
        self._questions = Questions()

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, place: Place) -> Entry | None:
        """See CacheStore."""
        entry = self._entries.get(place)
        if entry is None:
            return None
        if self._clock() - entry.created > self._spec.ttl_s + self._spec.stale_s:
            self._drop(place)
            return None
        self._entries.move_to_end(place)
        return entry

    async def put(self, place: Place, entry: Entry) -> None:
        """See CacheStore; an entry that is larger than the whole room is not kept."""
        self._drop(place)
        if entry.size > self._spec.max_mib * MIB:
            return
        self._entries[place] = entry
        self._questions.add(place, entry.question, entry.vector)
        self.bytes += entry.size
        while len(self._entries) > self._spec.max_entries or self.bytes > self._spec.max_mib * MIB:
            self._drop(next(iter(self._entries)))
            self.evicted += 1

    async def near(self, scope: str, vector: Vectors, least: float) -> list[Near]:
        """See CacheStore."""
        return self._questions.near(scope, vector, least)

    async def close(self) -> None:
        """See CacheStore: there is nothing to close."""

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.bytes -= entry.size
            self._questions.remove(place)
