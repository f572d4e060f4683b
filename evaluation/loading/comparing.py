"""Two load runs side by side: ratios of throughput and of every percentile, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from evaluation.load import TIMES, LoadReport, RequestTiming
from infra.errors import InputError

RESAMPLES = 1000
PERCENTS = (50, 95, 99)
LEAST_BLOCKS = 8
"""Blocks of a resample at least: with fewer, resamples hardly differ."""
SAME_HITS = 0.05
"""Difference of the share of prefix hits up to which two runs did the same work."""

Draws = NDArray[np.int64]
Values = NDArray[np.float64]


class Compared(BaseModel):
    """One figure of two runs and their ratio with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    load: str
    figure: str
    before: float
    after: float
    ratio: float
    """after / before."""
    low: float
    high: float
    is_paired: bool
    """Whether both runs asked the same prompts in the same order, and were resampled together."""

    @property
    def told(self) -> str:
        """Which side the interval is on."""
        if self.low <= 1 <= self.high:
            return "no difference shown"
        return "more" if self.low > 1 else "less"

    def row(self) -> dict[str, Any]:
        """As a table shows it."""
        return self.model_dump(exclude={"is_paired"}) | {"says": self.told}


class _Run:
    """The requests without error of one run, as arrays."""

    def __init__(self, timings: Sequence[RequestTiming]) -> None:
        self.timings = [timing for timing in timings if not timing.error]
        self.tokens = np.array([timing.completion_tokens for timing in self.timings], float)
        self.totals = np.array([timing.total_s for timing in self.timings])
        self._gaps = [np.asarray(timing.gaps_s) for timing in self.timings]
        self._firsts = np.array([timing.first_token_s for timing in self.timings])
        self._each = np.array([np.nan if timing.per_token_s is None else timing.per_token_s for timing in self.timings])

    @property
    def prompts(self) -> list[int]:
        """Lengths of the prompts: what tells whether two runs asked the same."""
        return [timing.prompt_tokens for timing in self.timings]

    def percentiles(self, time: str, drawn: Draws) -> Values:
        """P50, P95 and P99 of a kind of time in each resample, shape (resamples, 3), in seconds."""
        return np.array([np.percentile(self._values(time, chosen), PERCENTS) for chosen in drawn])

    def per_slot(self, drawn: Draws) -> Values:
        """Tokens a second of one slot in a closed loop (Little's law): tokens over time spent in requests, (n, 1)."""
        rates: Values = self.tokens[drawn].sum(axis=1, keepdims=True) / self.totals[drawn].sum(axis=1, keepdims=True)
        return rates

    def _values(self, time: str, chosen: Draws) -> Values:
        """The values of a kind of time of some requests, in seconds."""
        if time == "itl_ms":
            return np.concatenate([self._gaps[at] for at in chosen])
        values: Values = {"ttft_ms": self._firsts, "e2e_ms": self.totals, "tpot_ms": self._each}[time][chosen]
        return values[~np.isnan(values)]


def _blocks(length: int, together: float) -> int:
    """Requests that are drawn together. Those in flight at the same time share a batch, so that they are alike."""
    return int(max(1, min(together, length / LEAST_BLOCKS)))


def _draws(before: _Run, after: _Run, blocks: tuple[int, int] = (1, 1)) -> tuple[Draws, Draws]:
    """Resamples of both runs, (RESAMPLES, requests) each: blocks of neighbours, around the end (the circular block
    bootstrap of Politis and Romano). Paired by prompt, that is the same ones, where both runs asked the same.
    """
    source = np.random.default_rng(0)
    one = _drawn(len(before.totals), blocks[0], source)
    return one, one if before.prompts == after.prompts else _drawn(len(after.totals), blocks[1], source)


def _drawn(length: int, block: int, source: np.random.Generator) -> Draws:
    starts = source.integers(0, length, (RESAMPLES, -(-length // block), 1))
    return ((starts + np.arange(block)) % length).reshape(RESAMPLES, -1)[:, :length]


def _interval(before: Values, after: Values) -> list[tuple[float, float]]:
    """95 % percentile intervals of after / before, a column each."""
    low, high = np.percentile(after / before, [2.5, 97.5], axis=0)
    return [(float(one), float(other)) for one, other in zip(low, high, strict=True)]


def throughput_ratio(one: Sequence[RequestTiming], other: Sequence[RequestTiming]) -> tuple[float, float]:
    """95 % interval of how many times the tokens a second of `one` those of `other` are, in closed loops of one size.

    Requests are resampled, paired by prompt where both runs asked the same.
    """
    after, before = _Run(one), _Run(other)
    below, above = _draws(before, after)
    return _interval(before.per_slot(below), after.per_slot(above))[0]


def compare_loads(before: LoadReport, after: LoadReport, name: str) -> list[Compared]:
    """Throughput, then P50, P95 and P99 of every time that both have.

    The intervals say what chance does among the requests of these two runs. They do not say what another hour on a
    shared machine does: for that, runs are repeated in turn.

    Raises: InputError where a run has no request without error.
    """
    reports, runs = (before, after), (_Run(before.timings), _Run(after.timings))
    for report, run in zip(reports, runs, strict=True):
        if not len(run.totals):
            raise InputError(f"{name}: a run without one request that went well cannot be compared: {report.errors}")
    first, second = (
        _blocks(len(run.totals), run.totals.sum() / report.seconds) for report, run in zip(reports, runs, strict=True)
    )
    draws = _draws(*runs, (first, second))
    sides = list(zip(reports, runs, draws, strict=True))
    rates = [_throughput(report, run, drawn) for report, run, drawn in sides]
    found = {"tokens_per_s": ((before.output_tokens_per_s, after.output_tokens_per_s), _interval(*rates)[0])}
    for time in TIMES:
        spreads = [getattr(report, time) for report in reports]
        if all(spread and spread.p50 for spread in spreads):
            intervals = _interval(*(run.percentiles(time, drawn) for _, run, drawn in sides))
            for percent, interval in zip(PERCENTS, intervals, strict=True):
                values = (getattr(spreads[0], f"p{percent}"), getattr(spreads[1], f"p{percent}"))
                found[f"{time}_p{percent}"] = values, interval
    pair = runs[0].prompts == runs[1].prompts
    return [
        Compared(load=name, figure=figure, before=one, after=two, ratio=two / one, low=low, high=high, is_paired=pair)
        for figure, ((one, two), (low, high)) in found.items()
    ]


def _throughput(report: LoadReport, run: _Run, drawn: Draws) -> Values:
    """Closed loop: by Little's law from the requests' own times; open loop: tokens in the time that the run took."""
    if report.spec.mode == "closed":
        return report.spec.concurrency * run.per_slot(drawn)
    rates: Values = run.tokens[drawn].sum(axis=1, keepdims=True) / report.seconds
    return rates


def cautions(before: Mapping[str, LoadReport], after: Mapping[str, LoadReport]) -> list[str]:
    """Why the two runs are not the same work: another share of the prompts came out of the prefix cache."""
    found = []
    for one, other in _matched(before, after):
        shares = [run.engine.prefix_hit_share if run.engine else None for run in (before[one], after[other])]
        if shares[0] is not None and shares[1] is not None and abs(shares[1] - shares[0]) > SAME_HITS:
            found.append(
                f"{other}: not the same work: the prefix cache gave {shares[0]:.0%} of the prompts' tokens before and "
                f"{shares[1]:.0%} after; start the engine anew or use more prompts"
            )
    return found


def _matched(before: Mapping[str, LoadReport], after: Mapping[str, LoadReport]) -> list[tuple[str, str]]:
    """Names of the loads that belong together: equal ones, or the only one of each."""
    names = [(name, name) for name in before if name in after]
    if not names and len(before) == len(after) == 1:
        return [(next(iter(before)), next(iter(after)))]
    return names


def compare_runs(before: Mapping[str, LoadReport], after: Mapping[str, LoadReport]) -> list[Compared]:
    """Every load that both runs have, by its name; where each has one, these two.

    Raises: InputError where they have none in common.
    """
    names = _matched(before, after)
    if not names:
        raise InputError(
            f"the two runs have no load in common: {', '.join(before)} against {', '.join(after)}; "
            "run the same loads of section benchmark twice"
        )
    return [
        row
        for one, other in names
        for row in compare_loads(before[one], after[other], one if one == other else f"{one} to {other}")
    ]
