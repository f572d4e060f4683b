"""The ledger of limits in Redis, for several replicas, and what happens while Redis is away."""

import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from infra.errors import TryAgainError
from models.serving.limits import Ledger, Limits, Need, OwnLedger, Standing

LOG = logging.getLogger("sluice.gateway")
WAIT_S = 0.25
"""Longest wait for Redis: a request must not hang on it."""
AWAY_S = 1.0
"""After a fault Redis is left alone for so long, then one request tries it again."""
KEPT_S = 172_800
"""A key that is not used for two days is forgotten: by then nothing of its use counts any more."""
PREFIX = "sluice:used:"

TAKE = """
local function number(text) return tonumber(text) or 0 end
local now = tonumber(ARGV[1])
if now < 0 then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
local limits = {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])}
local need = {tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])}
local forced = ARGV[8] == '1'
local kept = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at', 'money', 'day')
local at, day = number(kept[3]), math.floor(now / 86400)
local elapsed = math.max(0, now - at)
local used = {0, 0, 0}
for i = 1, 2 do
  if limits[i] >= 0 then used[i] = math.max(0, number(kept[i]) - elapsed * limits[i] / 60) end
end
if day == number(kept[5]) then used[3] = number(kept[4]) end
local refused, wait = '', 0
if not forced then
  local over = {used[1] + need[1] - limits[1], used[2] + math.min(need[2], limits[2]) - limits[2]}
  if limits[3] >= 0 and used[3] >= limits[3] then
    refused, wait = 'money', (day + 1) * 86400 - now
  elseif limits[1] >= 0 and over[1] > 1e-9 then
    refused, wait = 'requests', over[1] * 60 / limits[1]
  elseif limits[2] >= 0 and over[2] > 1e-9 then
    refused, wait = 'tokens', over[2] * 60 / limits[2]
  end
end
local function text(value) return string.format('%.17g', value) end
local told = {refused, text(wait)}
for i = 1, 3 do
  if refused == '' then used[i] = math.max(0, used[i] + need[i]) end
  told[i + 2] = text(limits[i] >= 0 and limits[i] - used[i] or 0)
end
redis.call('HSET', KEYS[1], 'requests', text(used[1]), 'tokens', text(used[2]), 'at', text(math.max(now, at)),
  'money', text(used[3]), 'day', text(day))
redis.call('EXPIRE', KEYS[1], ARGV[9])
return told
"""
"""`models.serving.limits.take`, where it is one step for all replicas. A limit below 0 is none."""


class RedisLedger(Ledger):
    """Counts in Redis, by Redis' own clock unless one is given."""

    def __init__(self, url: str, clock: Callable[[], float] | None = None, *, prefix: str = PREFIX) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, retry=Retry(NoBackoff(), 0)
        )
        self._take = self._redis.register_script(TAKE)
        self._clock = clock
        self._prefix = prefix

    async def take(self, key: str, limits: Limits, need: Need) -> Standing:
        """See Ledger."""
        return await self._run(key, limits, need, forced=False)

    async def settle(self, key: str, limits: Limits, more: Need) -> None:
        """See Ledger."""
        await self._run(key, limits, more, forced=True)

    async def close(self) -> None:
        """See Ledger."""
        await self._redis.aclose()

    async def _run(self, key: str, limits: Limits, need: Need, *, forced: bool) -> Standing:
        allowed = (limits.requests_per_minute, limits.tokens_per_minute, limits.money_per_day)
        args = [
            self._clock() if self._clock else -1,
            *(-1 if limit is None else limit for limit in allowed),
            *(need.requests, need.tokens, need.money),
            int(forced),
            KEPT_S,
        ]
        try:
            refused, *figures = await self._take(keys=[self._prefix + key], args=args)
        except (RedisError, OSError) as error:
            raise TryAgainError(f"redis: {type(error).__name__}: {error}") from error
        return Standing(refused.decode(), *(float(figure) for figure in figures))


class SteadyLedger(Ledger):
    """Counts in a shared ledger, and in this process while that one is away; what was let in here counts then, too."""

    def __init__(self, shared: Ledger, fault: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`fault` is called for every request that was counted here because the shared ledger was away."""
        self._shared = shared
        self._own = OwnLedger()
        self._fault = fault
        self._clock = clock
        self._away_until = 0.0

    @property
    def away(self) -> bool:
        """Whether the shared ledger failed when it was last asked."""
        return self._away_until > 0

    async def take(self, key: str, limits: Limits, need: Need) -> Standing:
        """See Ledger; never raises."""
        own = await self._own.take(key, limits, need)
        if self._reachable():
            try:
                standing = await self._shared.take(key, limits, need)
            except TryAgainError as error:
                self._left(error)
            else:
                self._back()
                return standing
        self._fault()
        return own

    async def settle(self, key: str, limits: Limits, more: Need) -> None:
        """See Ledger; never raises."""
        await self._own.settle(key, limits, more)
        if not self.away:
            try:
                await self._shared.settle(key, limits, more)
            except TryAgainError as error:
                self._left(error)

    async def close(self) -> None:
        """See Ledger."""
        await self._shared.close()

    def _reachable(self) -> bool:
        """Whether the shared ledger is to be asked: while it is away, by one request a second."""
        if not self.away:
            return True
        if self._clock() < self._away_until:
            return False
        self._away_until = self._clock() + AWAY_S
        return True

    def _left(self, error: TryAgainError) -> None:
        if not self.away:
            LOG.warning("limits are counted in this process until Redis is back: %s", error)
        self._away_until = self._clock() + AWAY_S

    def _back(self) -> None:
        if self.away:
            LOG.warning("limits are counted in Redis again")
        self._away_until = 0.0
