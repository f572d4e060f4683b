"""The limits of a key around one request: an estimate is counted before it begins, the true figures when it ends."""

import math
from dataclasses import dataclass, field

from infra.cost import TokenPrices
from infra.records import ApiKey
from models.serving.asks import Usage
from models.serving.limits import Ledger, Limits, Need, Standing, limits_of
from models.serving.wire import ApiError

BYTES_PER_TOKEN = 4
"""For the estimate only."""
REFUSALS = {
    "requests": ("rate_limit_exceeded", "This key has used its requests of the minute; try again."),
    "tokens": ("rate_limit_exceeded", "This key has used its tokens of the minute; try again."),
    "money": ("insufficient_quota", "This key has used its money of the day."),
}


@dataclass(slots=True)
class Spending:
    """One request that was let in: what was counted for it, and what it has used."""

    key: str = ""
    limits: Limits = field(default_factory=Limits)
    counted: Need = field(default_factory=Need)
    headers: dict[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


class Meter:
    """Lets requests in by what their keys may use."""

    def __init__(self, ledger: Ledger, default: Limits, reserve_tokens: int, prices: TokenPrices) -> None:
        """`reserve_tokens` are counted for every question, beside its own, until its tokens are known."""
        self.ledger = ledger
        self._default = default
        self._reserve = reserve_tokens
        self._prices = prices

    async def begin(self, caller: ApiKey, body_bytes: int) -> Spending:
        """Count a request; `body_bytes` 0 for one that no engine works on. Raises ApiError 429 with the headers."""
        limits = limits_of(caller, self._default)
        if limits.free:
            return Spending()
        need = Need(1)
        if body_bytes:
            asked = body_bytes / BYTES_PER_TOKEN
            need = Need(1, math.ceil(asked) + self._reserve, self._prices.of(asked, 0, self._reserve))
        standing = await self.ledger.take(caller.digest, limits, need)
        headers = standing.headers(limits)
        if standing.refused:
            raise _refusal(standing, headers)
        return Spending(caller.digest, limits, need, headers)

    async def end(self, spending: Spending) -> None:
        """Count what the request really took. One that broke with its figures unknown keeps the estimate."""
        usage, counted = spending.usage, spending.counted
        if not spending.key or not counted.tokens or (usage.begun and not usage.known):
            return
        more = Need(0, usage.tokens - counted.tokens, usage.cost - counted.money)
        if more.tokens or more.money:
            await self.ledger.settle(spending.key, spending.limits, more)


def _refusal(standing: Standing, headers: dict[str, str]) -> ApiError:
    code, message = REFUSALS[standing.refused]
    error = ApiError(429, code, message, retry_after=max(1, math.ceil(standing.retry_after_s)))
    error.headers |= headers
    return error
