"""What a key may use: requests and tokens a minute, money a day; decided here, counted in this process or in Redis."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field, ValidationError

from infra.errors import PolicyError
from infra.records import ApiKey
from infra.settings import Spec

MINUTE, DAY = 60.0, 86_400.0
Refused = Literal["", "requests", "tokens", "money"]


class Limits(Spec):
    """What one key may use; None: no limit."""

    requests_per_minute: int | None = Field(None, ge=1)
    """Requests. What a minute allows comes back evenly, so that after a rest as many may come at once."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Tokens of prompts and answers together; they come back the same way."""
    money_per_day: float | None = Field(None, gt=0)
    """Money, in the currency of section `cost`; the day begins at midnight UTC."""

    @property
    def free(self) -> bool:
        """Whether nothing is limited."""
        return self.requests_per_minute is None and self.tokens_per_minute is None and self.money_per_day is None


def limits_of(key: ApiKey, default: Limits) -> Limits:
    """What this key may use: the policy's figures where it has none of its own. Raises PolicyError for a wrong one."""
    if not key.limits:
        return default
    try:
        return Limits.model_validate(default.model_dump() | key.limits)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"limits of the key {key.digest[:12]}: {field}: {first['msg']}; add it again") from error


@dataclass(frozen=True, slots=True)
class Need:
    """What a request takes, or gives back where a figure is negative."""

    requests: int = 0
    tokens: float = 0.0
    money: float = 0.0


@dataclass(frozen=True, slots=True)
class Used:
    """What a key has used: of the last minute at time `at`, and of the day `day` (days since the epoch)."""

    requests: float = 0.0
    tokens: float = 0.0
    at: float = 0.0
    money: float = 0.0
    day: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands after a request was let in or sent away: what is left, and in how long there is enough."""

    refused: Refused = ""
    retry_after_s: float = 0.0
    requests: float = 0.0
    tokens: float = 0.0
    money: float = 0.0

    def headers(self, limits: Limits) -> dict[str, str]:
        """OpenAI's headers for what is limited, and one of our own for the money."""
        told: dict[str, str] = {}
        for name, limit, left in (
            ("requests", limits.requests_per_minute, self.requests),
            ("tokens", limits.tokens_per_minute, self.tokens),
        ):
            if limit is not None:
                told[f"x-ratelimit-limit-{name}"] = str(limit)
                told[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(left + 1e-9)))
                told[f"x-ratelimit-reset-{name}"] = f"{max(0.0, limit - left) * MINUTE / limit:.3f}s"
        if limits.money_per_day is not None:
            told["x-sluice-money-left"] = f"{max(0.0, self.money):.6f}"
        return told


def take(used: Used, limits: Limits, need: Need, now: float, *, forced: bool = False) -> tuple[Used, Standing]:
    """What a key has used after this need, and how it stands; a refused need is not taken, a forced one never refused.

    A need larger than the whole limit waits for all of it, not for ever. A limit of money lets the last request through
    that begins below it.
    """
    elapsed = max(0.0, now - used.at)
    requests_limit, tokens_limit = limits.requests_per_minute or math.inf, limits.tokens_per_minute or math.inf
    requests = _after(used.requests, elapsed, limits.requests_per_minute)
    tokens = _after(used.tokens, elapsed, limits.tokens_per_minute)
    day = int(now // DAY)
    money = used.money if day == used.day else 0.0
    at = max(now, used.at)
    if not forced:
        over_requests = requests + need.requests - requests_limit
        over_tokens = tokens + min(need.tokens, tokens_limit) - tokens_limit
        refused: Refused = ""
        wait = 0.0
        if limits.money_per_day is not None and money >= limits.money_per_day:
            refused, wait = "money", (day + 1) * DAY - now
        elif over_requests > 1e-9:
            refused, wait = "requests", over_requests * MINUTE / requests_limit
        elif over_tokens > 1e-9:
            refused, wait = "tokens", over_tokens * MINUTE / tokens_limit
        if refused:
            left = _left(limits, requests, tokens, money)
            return Used(requests, tokens, at, money, day), Standing(refused, wait, *left)
    requests = max(0.0, requests + need.requests)
    tokens = max(0.0, tokens + need.tokens)
    money = max(0.0, money + need.money)
    return Used(requests, tokens, at, money, day), Standing("", 0.0, *_left(limits, requests, tokens, money))


def _after(used: float, elapsed: float, limit: int | None) -> float:
    """What of a minute's use still counts after `elapsed` seconds."""
    return max(0.0, used - elapsed * limit / MINUTE) if limit is not None else 0.0


def _left(limits: Limits, requests: float, tokens: float, money: float) -> tuple[float, float, float]:
    pairs = ((limits.requests_per_minute, requests), (limits.tokens_per_minute, tokens), (limits.money_per_day, money))
    one, two, three = (limit - used if limit is not None else 0.0 for limit, used in pairs)
    return one, two, three


class Ledger(Protocol):
    """Port: what keys have used. Raises TryAgainError when it cannot be reached."""

    async def take(self, key: str, limits: Limits, need: Need) -> Standing:
        """Count a request against its key, or refuse it; at once for all who ask."""
        ...

    async def settle(self, key: str, limits: Limits, more: Need) -> None:
        """Count what a request took beyond what was counted when it began; negative figures give back."""
        ...

    async def close(self) -> None: ...


class OwnLedger(Ledger):
    """Counts in this process: right for one replica."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used: dict[str, Used] = {}

    async def take(self, key: str, limits: Limits, need: Need) -> Standing:
        """See Ledger."""
        self._used[key], standing = take(self._used.get(key, Used()), limits, need, self._clock())
        return standing

    async def settle(self, key: str, limits: Limits, more: Need) -> None:
        """See Ledger."""
        self._used[key], _ = take(self._used.get(key, Used()), limits, more, self._clock(), forced=True)

    async def close(self) -> None:
        """See Ledger."""
