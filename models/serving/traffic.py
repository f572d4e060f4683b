"""Which release answers a request: the sticky split between production, baseline and canary, read from the records."""

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass, field

from infra.errors import TryAgainError
from infra.records import ApiKey, Placement, Records, Rollout

LOG = logging.getLogger("sluice.gateway")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The release that answers, the arm it counts for and the canary it belongs to (empty without one)."""

    release: str
    arm: str
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class Routing:
    """What the records say now: the live release, the running canary, engines and callers."""

    production: str | None = None
    rollout: Rollout | None = None
    placements: dict[str, Placement] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)

    @property
    def active(self) -> list[str]:
        """Releases that traffic may reach, production first, as far as an engine serves them."""
        names = [self.production, *((self.rollout.baseline, self.rollout.canary) if self.rollout else ())]
        return [name for name in dict.fromkeys(names) if name and name in self.placements]


def bucket(salt: str, unit: str) -> float:
    """Where a user or session falls in [0, 1): uniform over units, always the same for one salt."""
    digest = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def assign(routing: Routing, unit: str) -> Assignment | None:
    """The arm of a user or session, or None when nothing is live.

    The canary takes the buckets from 0 up and the baseline as many from 1 down, so that whoever is in an arm stays in
    it while the share grows. At most half of all buckets go to each.
    """
    if routing.production is None:
        return None
    rollout = routing.rollout
    if rollout is not None:
        share, place = min(rollout.share, 0.5), bucket(rollout.id, unit)
        if place < share:
            return Assignment(rollout.canary, "canary", rollout.id)
        if place >= 1 - share:
            return Assignment(rollout.baseline, "baseline", rollout.id)
    return Assignment(routing.production, "production")


def forced(routing: Routing, release: str) -> Assignment:
    """The assignment of a request that names its release: it counts for the arm of a running canary, if it is one."""
    rollout = routing.rollout
    if rollout is not None and release in (rollout.canary, rollout.baseline):
        return Assignment(release, "canary" if release == rollout.canary else "baseline", rollout.id)
    return Assignment(release, "production")


def read_routing(records: Records) -> Routing:
    """The routing as it stands in the records."""
    return Routing(
        production=records.pointer("production"),
        rollout=records.running_rollout(),
        placements=records.placements(),
        keys=records.keys(),
    )


class RoutingCache:
    """The routing, read again when older than `max_age_s`. While the database is away the last one stays in force."""

    def __init__(self, records: Records, max_age_s: float) -> None:
        self._records = records
        self._max_age_s = max_age_s
        self._lock = asyncio.Lock()
        self._routing: Routing | None = None
        self._read_at = 0.0

    async def get(self) -> Routing:
        """The routing, at most `max_age_s` old. Raises TryAgainError when it was never readable."""
        if self._routing is not None and time.monotonic() - self._read_at < self._max_age_s:
            return self._routing
        async with self._lock:
            if self._routing is None or time.monotonic() - self._read_at >= self._max_age_s:
                await self._read()
            assert self._routing is not None, "read or raised"
            return self._routing

    async def renew(self) -> None:
        """Read it now, while requests go on with the one that is in force. Raises TryAgainError as get does."""
        async with self._lock:
            await self._read()

    async def _read(self) -> None:
        try:
            self._routing = await asyncio.to_thread(read_routing, self._records)
        except TryAgainError as error:
            if self._routing is None:
                raise
            LOG.warning("routing stays as it was: %s", error)
        self._read_at = time.monotonic()
