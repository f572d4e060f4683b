"""Circuit breaker of one engine address, and the budget of retries: pure bookkeeping over a given clock."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from infra.settings import Spec

State = Literal["closed", "open", "half-open"]
Clock = Callable[[], float]


class BreakerSpec(Spec):
    """When an engine is left alone, and how often a request is tried again; `gateway.breaker` of the policy file."""

    window_s: float = Field(gt=0, le=3600)
    """Seconds that are looked back on."""
    failures: int = Field(ge=1, le=10_000)
    """So many failures in the window open the breaker …"""
    share: float = Field(gt=0, le=1)
    """… where they are at least this share of the requests in it."""
    open_s: float = Field(gt=0, le=3600)
    """Seconds until one request is let through to see whether the engine is back."""
    retry_share: float = Field(ge=0, le=1)
    """Requests that may be sent to the same engine a second time, as a share of all. 0: none."""
    backoff_s: float = Field(ge=0, le=60)
    """Longest wait before that; the true one is drawn evenly below it."""


class Breaker:
    """closed: requests pass. open: none does for `open_s`. half-open: one tries, and decides which of both follows."""

    def __init__(self, spec: BreakerSpec, clock: Clock = time.monotonic) -> None:
        self._spec = spec
        self._clock = clock
        self._ends: deque[tuple[float, bool]] = deque()
        """(when, failed) of the requests in the window."""
        self._failed = 0
        self._opened_at: float | None = None
        self._trial_at: float | None = None
        self.opened = 0
        """How often it has opened."""

    @property
    def state(self) -> State:
        """See the class."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() - self._opened_at >= self._spec.open_s else "open"

    def admits(self) -> bool:
        """Whether a request may be sent now. One that was must be told of by `succeeded`, `failed` or `left`."""
        if self._opened_at is None:
            return True
        now = self._clock()
        if now - self._opened_at < self._spec.open_s:
            return False
        if self._trial_at is not None and now - self._trial_at < self._spec.open_s:
            return False
        self._trial_at = now
        return True

    def succeeded(self) -> None:
        """The engine has answered."""
        if self._opened_at is not None:
            self._opened_at = self._trial_at = None
            self._ends.clear()
            self._failed = 0
        self._note(failed=False)

    def failed(self) -> None:
        """The engine was not there, too slow, or broke."""
        self._note(failed=True)
        if self._opened_at is not None:
            # Also a request that was sent before it opened tells that the engine is away still.
            self._opened_at, self._trial_at = self._clock(), None
        elif self._failed >= self._spec.failures and self._failed >= self._spec.share * len(self._ends):
            self._opened_at = self._clock()
            self.opened += 1

    def left(self) -> None:
        """Nobody waited for the answer: nothing is known."""
        self._trial_at = None

    def _note(self, *, failed: bool) -> None:
        now = self._clock()
        self._ends.append((now, failed))
        self._failed += failed
        while self._ends[0][0] < now - self._spec.window_s:
            self._failed -= self._ends.popleft()[1]


class RetryBudget:
    """Second attempts as a share of requests, so that they cannot multiply the load of an engine that is failing."""

    BURST = 10.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = self.BURST if share else 0.0

    def request(self) -> None:
        """A request came."""
        self._left = min(self.BURST, self._left + self._share)

    def take(self) -> bool:
        """Whether one may be sent a second time."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
