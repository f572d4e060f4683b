"""Token use of a key that is unlike its own past: told by a sequential test whose false alarms are bounded.

Each window of a key's use is ranked among its earlier ones. While the use does not change (the windows are
exchangeable) the smoothed ranks are uniform and independent, whatever the use is distributed like (conformal
prediction). A bet that pays when ranks are high makes an e-value of each, and an alarm is raised when their
Shiryaev-Roberts sum reaches `windows_per_false_alarm`: so many windows, on average at least, lie between two false
alarms of a key (e-detectors: Shin, Ramdas and Rinaldo, arXiv 2203.03532).
"""

import math
import random
from bisect import bisect_left, bisect_right, insort

from pydantic import Field

from infra.settings import Spec

KEPT = 1024
"""Windows that a new one is ranked among; when there are so many, the ranking begins anew."""


class AnomalySpec(Spec):
    """When the token use of a key is reported as unlike its past. Nothing is blocked by it."""

    window_s: float = Field(gt=0, le=86_400)
    """Tokens are added up over so many seconds; windows without a request do not count."""
    windows_per_false_alarm: int = Field(ge=100)
    """Windows with use between two false alarms of one key, on average at least."""


def rank(earlier: list[float], value: float, chance: float) -> float:
    """Smoothed share of windows, this one among them, that are as high as `value`; `chance` in (0, 1] settles ties."""
    higher = len(earlier) - bisect_right(earlier, value)
    equal = bisect_right(earlier, value) - bisect_left(earlier, value)
    return (higher + chance * (equal + 1)) / (len(earlier) + 1)


def bet(share: float) -> float:
    """What a bet on small shares pays: 1 on average over uniform shares."""
    return 0.5 / math.sqrt(share)


class KeyWatch:
    """The test for one key."""

    def __init__(self, windows_per_false_alarm: int, chance: random.Random) -> None:
        self._limit = windows_per_false_alarm
        self._chance = chance
        self._earlier: list[float] = []
        self._evidence = 0.0

    def window(self, tokens: float) -> bool:
        """Whether the use is unlike the past, now that a window has ended; after an alarm the evidence begins anew."""
        share = rank(self._earlier, tokens, 1 - self._chance.random())
        self._evidence = (self._evidence + 1) * bet(share)
        insort(self._earlier, tokens)
        if len(self._earlier) >= KEPT:
            self._earlier.clear()
        if self._evidence < self._limit:
            return False
        self._evidence = 0.0
        return True


class TokenWatch:
    """The test for every key."""

    def __init__(self, spec: AnomalySpec, chance: random.Random | None = None) -> None:
        self._spec = spec
        self._chance = chance or random.SystemRandom()
        self._keys: dict[str, KeyWatch] = {}
        self._open: dict[str, tuple[int, float]] = {}

    def used(self, key: str, tokens: float, now: float) -> bool:
        """Count the tokens of a request; whether the window that it ended is an alarm. `now` in seconds."""
        window = int(now // self._spec.window_s)
        last, total = self._open.get(key, (window, 0.0))
        if last == window:
            self._open[key] = window, total + tokens
            return False
        self._open[key] = window, tokens
        if key not in self._keys:
            self._keys[key] = KeyWatch(self._spec.windows_per_false_alarm, self._chance)
        return self._keys[key].window(total)
