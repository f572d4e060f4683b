"""The largest rate or concurrency within the SLO: doubling until a step misses it, then bisection of what is left."""

from collections.abc import Callable, Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evaluation.load import LoadReport, LoadSpec
from infra.errors import PolicyError
from infra.settings import Spec

Mode = Literal["closed", "open"]
UNITS: dict[Mode, str] = {"closed": "requests in flight", "open": "requests/s"}


class SearchSpec(Spec):
    """How the largest load within the SLO is searched.

    It ends when the smallest load that missed the SLO exceeds the largest that met it by at most `precision` (or by
    one request in flight), at a limit, or after `steps`.
    """

    modes: tuple[Mode, ...] = Field(("closed", "open"), min_length=1)
    """closed: largest concurrency; open: largest rate."""
    first_concurrency: int = Field(1, ge=1)
    """Where the search for the concurrency begins."""
    most_concurrency: int = Field(256, ge=1)
    """It does not go further."""
    first_rate_per_s: float = Field(1.0, gt=0)
    """Where the search for the rate begins."""
    most_rate_per_s: float = Field(1000.0, gt=0)
    """It does not go further."""
    precision: float = Field(0.1, gt=0, le=1)
    """How close the two ends must come, as a share."""
    steps: int = Field(14, ge=1, le=100)
    """Most steps of one search."""
    requests: int = Field(40, ge=20, le=100_000)
    """Least requests of a step."""
    seconds: float = Field(10, gt=0, le=3600)
    """Open loop: least time in which requests arrive."""
    rounds: int = Field(4, ge=1, le=1000)
    """Closed loop: least requests of a step for each one in flight."""

    @model_validator(mode="after")
    def _begins_below_its_end(self) -> Self:
        if self.first_concurrency > self.most_concurrency or self.first_rate_per_s > self.most_rate_per_s:
            raise ValueError("the search begins above its limit")
        return self

    def first(self, mode: Mode) -> float:
        """Level at which the search begins."""
        return float(self.first_concurrency) if mode == "closed" else self.first_rate_per_s

    def most(self, mode: Mode) -> float:
        """Level beyond which it does not go."""
        return float(self.most_concurrency) if mode == "closed" else self.most_rate_per_s


class Tried(BaseModel):
    """One step: a load at one level, what it showed, and whether that is within the SLO."""

    model_config = ConfigDict(frozen=True)

    level: float
    """Requests in flight (closed loop) or arrivals a second (open loop)."""
    is_within: bool
    why: str
    report: LoadReport | None = None
    """Its figures; the raw timings are left out."""


class SearchResult(BaseModel):
    """The answer of one search, with every step."""

    model_config = ConfigDict(frozen=True)

    mode: Mode
    best: float | None
    """Largest level within the SLO; None where no step was."""
    ended: str
    """Which stop rule ended the search."""
    steps: tuple[Tried, ...]
    """In the order they were made."""

    @property
    def best_step(self) -> Tried | None:
        """The step at the best level."""
        return next((step for step in self.steps if step.is_within and step.level == self.best), None)

    @property
    def told(self) -> str:
        """The answer in a sentence."""
        best = "no load that was tried" if self.best is None else f"{self.best:g} {UNITS[self.mode]}"
        return f"{self.mode} loop: {best} within the SLO after {len(self.steps)} steps; {self.ended}"


def step_spec(spec: LoadSpec, search: SearchSpec, mode: Mode, level: float) -> LoadSpec:
    """The load of one step, long enough for its percentiles."""
    if mode == "closed":
        in_flight = int(level)
        requests = max(search.requests, search.rounds * in_flight)
        changed: dict[str, float] = {
            "concurrency": in_flight,
            "requests": requests,
            "warmup": min(spec.warmup, in_flight),
        }
    else:
        requests = max(search.requests, round(level * search.seconds))
        changed = {"rate_per_s": level, "requests": requests}
    return spec.model_copy(update={"mode": mode, **changed})


def judge(level: float, report: LoadReport) -> Tried:
    """Whether a step was within the SLO: it ran to its end, and enough of its requests were good."""
    assert report.spec.slo is not None and report.good_share is not None, "a search has an SLO"
    share, wanted = report.good_share, report.spec.slo.share
    why = report.stopped or f"{share:.1%} of {report.requests} requests were good, {wanted:.1%} asked for"
    return Tried(
        level=level,
        is_within=not report.stopped and share >= wanted,
        why=why,
        report=report.model_copy(update={"timings": ()}),
    )


def next_level(tried: Sequence[Tried], search: SearchSpec, mode: Mode) -> tuple[float | None, str]:
    """(level to try next, ""), or (None, why the search is over). A pure function of the steps so far.

    Doubles from the first level while steps are within the SLO; halves where the first was not; then bisects. In the
    closed loop levels are whole numbers.
    """
    if not tried:
        return search.first(mode), ""
    low = max((step.level for step in tried if step.is_within), default=None)
    # Chance can pass a step above one that failed: what counts as failed lies above all that passed.
    high = min((step.level for step in tried if not step.is_within and (low is None or step.level > low)), default=None)
    if len(tried) >= search.steps:
        return None, f"the limit of {search.steps} steps was reached"
    if high is None:
        assert low is not None, "a step passed or it failed"
        if low >= search.most(mode):
            return None, f"the limit of {search.most(mode):g} was reached and is within the SLO"
        return min(2 * low, search.most(mode)), ""
    if low is None:
        return _lower(high, search, mode)
    if mode == "closed":
        is_close = high - low <= max(1.0, search.precision * low)
        middle = float(int((low + high) // 2))
    else:
        is_close = high <= low * (1 + search.precision)
        middle = (low + high) / 2
    return (None, f"the next load that was tried, {high:g}, is out of the SLO") if is_close else (middle, "")


def _lower(failed: float, search: SearchSpec, mode: Mode) -> tuple[float | None, str]:
    """Half of the lowest level that failed, down to one request in flight or a thousandth of the first rate."""
    half = failed / 2
    if mode == "closed":
        half = float(int(half))
    if half < (1 if mode == "closed" else search.first(mode) / 1000):
        return None, f"{failed:g} is out of the SLO already"
    return half, ""


def search_load(
    spec: LoadSpec, search: SearchSpec, mode: Mode, measure: Callable[[LoadSpec, int], LoadReport]
) -> SearchResult:
    """Search with `measure(load of a step, number of the first prompt)`; each step goes on where the last one ended,
    warm-up included, so that none finds its prompts in the prefix cache before they are used up.

    Raises: PolicyError without an SLO: there would be nothing to search for.
    """
    if spec.slo is None:
        raise PolicyError("benchmark.search needs benchmark.slo: name limits, or leave the search out")
    tried: list[Tried] = []
    sent = 0
    while True:
        level, ended = next_level(tried, search, mode)
        if level is None:
            best = max((step.level for step in tried if step.is_within), default=None)
            return SearchResult(mode=mode, best=best, ended=ended, steps=tuple(tried))
        load = step_spec(spec, search, mode, level)
        tried.append(judge(level, measure(load, sent)))
        sent += load.requests + load.warmup
