"""What a load on an engine is and what it showed: the spec, the raw timing of every request, the figures of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from evaluation.loading.engine_metrics import EngineFigures
from infra.settings import Spec

TIMES = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
"""Fields of Figures that hold percentiles."""


class Slo(Spec):
    """Limits within which a request is good; null is no limit."""

    ttft_ms: float | None = Field(None, gt=0)
    """Longest time to the first token."""
    itl_ms: float | None = Field(None, gt=0)
    """Longest gap between tokens, as P95 of a request's own gaps: a mean would hide a stall."""
    e2e_ms: float | None = Field(None, gt=0)
    """Longest time to the whole answer."""
    share: float = Field(gt=0, le=1)
    """Share of the requests that must be good for a load to be within the limits."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.ttft_ms is None and self.itl_ms is None and self.e2e_ms is None:
            raise ValueError("name at least one of ttft_ms, itl_ms and e2e_ms")
        return self


class LoadSpec(Spec):
    """One load run. Prompts are taken in turn, from the start again when they are used up."""

    mode: Literal["closed", "open"] = "closed"
    """closed: a new request when one ends; open: requests arrive whether or not the engine keeps up."""
    requests: int = Field(64, ge=1, le=1_000_000)
    """Measured requests."""
    warmup: int = Field(4, ge=0, le=10_000)
    """Requests before the measurement, excluded from every number."""
    concurrency: int = Field(8, ge=1, le=4096)
    """Closed loop: requests in flight. Warm-up uses it too."""
    rate_per_s: float = Field(4.0, gt=0, le=100_000)
    """Open loop: mean arrivals a second (a Poisson process)."""
    max_tokens: int = Field(64, ge=1, le=65_536)
    """Longest answer of a prompt that does not say it itself."""
    ignore_eos: bool = False
    """Let every answer reach its longest: equal work in every run. A field of vLLM; other servers may refuse it."""
    timeout_s: float = Field(120, gt=0)
    """A request slower than this is an error."""
    seed: int = 0
    """Of the arrival times."""
    slo: Slo | None = None
    """What makes a request good; null: goodput is not told."""
    long_from_tokens: int | None = Field(None, ge=1)
    """Prompts of this many tokens and more are told apart from shorter ones; null: all together."""
    give_up_after: int = Field(32, ge=1)
    """Failures in a row after which the rest is not sent: the engine is gone."""
    sample_s: float = Field(1.0, gt=0, le=60)
    """Seconds between two looks at the engine's own metrics."""

    @property
    def name(self) -> str:
        """Kind and level in a word: closed-8 (requests in flight), open-2.5 (requests a second)."""
        return f"{self.mode}-{self.concurrency if self.mode == 'closed' else self.rate_per_s:g}"


class RequestTiming(BaseModel):
    """One request as observed. Seconds; in the open loop counted from the planned arrival, so that waiting counts."""

    model_config = ConfigDict(frozen=True)

    sent_s: float = 0.0
    """Planned start, after that of the first measured request."""
    late_s: float = 0.0
    """How much later than planned it was sent: what the generator itself adds."""
    first_token_s: float = 0.0
    total_s: float
    gaps_s: tuple[float, ...] = ()
    """Times between the events with new tokens, in order."""
    prompt_tokens: int = 0
    """As the server counts them; of a failed request as they were counted before, or 0."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    is_counted: bool = True
    """Whether the server told the tokens; otherwise each event counts as one."""
    error: str = ""
    """`kind: detail`, kind one of connect, http, lost, stream and timeout; empty where all went well."""

    @property
    def per_token_s(self) -> float | None:
        """Mean time of each token after the first; None for answers of one token."""
        after_first = self.completion_tokens - 1
        return (self.total_s - self.first_token_s) / after_first if after_first > 0 else None

    def is_good(self, slo: Slo) -> bool:
        """Whether it is without error and within the limits."""
        if self.error:
            return False
        gap = float(np.percentile(self.gaps_s, 95)) if self.gaps_s and slo.itl_ms is not None else 0.0
        measured = ((self.first_token_s, slo.ttft_ms), (gap, slo.itl_ms), (self.total_s, slo.e2e_ms))
        return all(limit is None or 1000 * seconds <= limit for seconds, limit in measured)


class Percentiles(BaseModel):
    """Of `n` values, in milliseconds; linear interpolation."""

    model_config = ConfigDict(frozen=True)

    n: int
    mean: float
    p50: float
    p95: float
    p99: float


class Figures(BaseModel):
    """What a set of requests shows. Percentiles are over requests without error, None where there were none."""

    model_config = ConfigDict(frozen=True)

    ttft_ms: Percentiles | None
    """Time to first token."""
    itl_ms: Percentiles | None = None
    """Every gap between two events with tokens, of all requests."""
    tpot_ms: Percentiles | None
    """Mean time per output token after the first, a value a request."""
    e2e_ms: Percentiles | None
    """Whole answer."""
    requests_per_s: float
    """Requests without error."""
    goodput_per_s: float | None = None
    """Requests within the SLO a second; None without an SLO."""
    good_share: float | None = None
    """Requests within the SLO of all requests."""
    output_tokens_per_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int = 0
    request_seconds: float = 0.0
    """Time spent in requests, all together: what the machine's time is shared by."""
    errors: dict[str, int]
    """Error (`kind: detail`) → how often."""

    @property
    def requests(self) -> int:
        """Measured requests, failed ones included."""
        return (self.e2e_ms.n if self.e2e_ms else 0) + sum(self.errors.values())

    @property
    def errors_by_kind(self) -> dict[str, int]:
        """Kind of error → how often."""
        kinds: Counter[str] = Counter()
        for error, count in self.errors.items():
            kinds[error.partition(":")[0]] += count
        return dict(kinds)

    def metrics(self) -> dict[str, float]:
        """The numbers under flat names (`ttft_ms_p95`); what was not measured is left out."""
        flat = {
            "requests": float(self.requests),
            "errors": float(sum(self.errors.values())),
            "requests_per_s": self.requests_per_s,
            "output_tokens_per_s": self.output_tokens_per_s,
            "cached_token_share": self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0,
        }
        for name in ("goodput_per_s", "good_share"):
            if (value := getattr(self, name)) is not None:
                flat[name] = value
        for name in TIMES:
            if (spread := getattr(self, name)) is not None:
                flat |= {f"{name}_p{q}": getattr(spread, f"p{q}") for q in (50, 95, 99)}
        return flat


class LoadReport(Figures):
    """What a load run measured."""

    spec: LoadSpec
    model: str
    warmup_excluded: int
    seconds: float
    """From the first measured request to the end of the last."""
    classes: dict[str, Figures] = Field(default_factory=dict)
    """The same of short and of long prompts, where the spec has a boundary."""
    engine: EngineFigures | None = None
    """What the engine's own metrics say of the measured time; None where nobody looked."""
    generator_cpu_share: float | None = None
    """CPU time of the generator's thread by the time measured: of one core."""
    late_p99_ms: float = 0.0
    """P99 of how late the generator sent: far below the times above, or they are the generator's."""
    unfinished: int = 0
    """Requests that were in flight when the run was stopped; they are in no other number."""
    stopped: str = ""
    """Why the run ended before its last request; empty where it did not."""
    timings: tuple[RequestTiming, ...]
    """Raw, in order of sending."""

    def metrics(self) -> dict[str, float]:
        """See Figures; those of a class and of the engine under their prefix (`long/ttft_ms_p95`)."""
        flat = super().metrics() | {"late_ms_p99": self.late_p99_ms}
        if self.generator_cpu_share is not None:
            flat["generator_cpu_share"] = self.generator_cpu_share
        for name, figures in self.classes.items():
            flat |= {f"{name}/{key}": value for key, value in figures.metrics().items()}
        if self.engine:
            flat |= {f"engine/{key}": value for key, value in self.engine.told().items()}
        return flat


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """Summary of durations in seconds as milliseconds; None of none."""
    if not seconds:
        return None
    values = np.asarray(seconds) * 1000
    p50, p95, p99 = (float(value) for value in np.percentile(values, [50, 95, 99]))
    return Percentiles(n=len(values), mean=float(values.mean()), p50=p50, p95=p95, p99=p99)


def figures_of(timings: Sequence[RequestTiming], seconds: float, slo: Slo | None) -> Figures:
    """The figures of raw timings that took `seconds` in all."""
    fine = [timing for timing in timings if not timing.error]
    good = sum(timing.is_good(slo) for timing in fine) if slo else 0
    tokens = sum(timing.completion_tokens for timing in fine)
    return Figures(
        ttft_ms=percentiles([timing.first_token_s for timing in fine]),
        itl_ms=percentiles([gap for timing in fine for gap in timing.gaps_s]),
        tpot_ms=percentiles([value for timing in fine if (value := timing.per_token_s) is not None]),
        e2e_ms=percentiles([timing.total_s for timing in fine]),
        requests_per_s=len(fine) / seconds,
        goodput_per_s=good / seconds if slo else None,
        good_share=good / len(timings) if slo and timings else None,
        output_tokens_per_s=tokens / seconds,
        prompt_tokens=sum(timing.prompt_tokens for timing in fine),
        cached_tokens=sum(timing.cached_tokens for timing in fine),
        completion_tokens=tokens,
        request_seconds=sum(timing.total_s for timing in timings),
        errors=dict(Counter(timing.error for timing in timings if timing.error)),
    )


def _classes(timings: Sequence[RequestTiming], seconds: float, spec: LoadSpec) -> dict[str, Figures]:
    """Short and long prompts apart; one that failed before its tokens were counted counts as short."""
    if spec.long_from_tokens is None:
        return {}
    long = [timing for timing in timings if timing.prompt_tokens >= spec.long_from_tokens]
    short = [timing for timing in timings if timing.prompt_tokens < spec.long_from_tokens]
    found = {"short": short, "long": long}
    return {name: figures_of(rows, seconds, spec.slo) for name, rows in found.items() if rows}


def summarize(
    spec: LoadSpec,
    model: str,
    timings: Sequence[RequestTiming],
    seconds: float,
    warmup: int,
    *,
    engine: EngineFigures | None = None,
    cpu_s: float | None = None,
    unfinished: int = 0,
    stopped: str = "",
) -> LoadReport:
    """The report of raw timings."""
    late = percentiles([timing.late_s for timing in timings])
    return LoadReport(
        **figures_of(timings, seconds, spec.slo).model_dump(),
        spec=spec,
        model=model,
        warmup_excluded=warmup,
        seconds=seconds,
        classes=_classes(timings, seconds, spec),
        engine=engine,
        generator_cpu_share=None if cpu_s is None else cpu_s / seconds,
        late_p99_ms=late.p99 if late else 0.0,
        unfinished=unfinished,
        stopped=stopped,
        timings=tuple(timings),
    )
