"""Load on an engine: closed loop (fixed concurrency) or open loop (Poisson arrivals), raw timings, then percentiles."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from infra.errors import InputError, SluiceError
from infra.settings import Spec
from models.serving.engine import OpenAIEngine, Piece
from models.types import Message

Prompts = Sequence[Sequence[Message]]


class LoadSpec(Spec):
    """One load run. Prompts are taken in turn, from the start again when they are used up."""

    mode: Literal["closed", "open"] = "closed"
    """closed: a new request when one ends; open: requests arrive whether or not the engine keeps up."""
    requests: int = Field(64, ge=1, le=1_000_000)
    """Measured requests."""
    warmup: int = Field(4, ge=0, le=10_000)
    """Requests before the measurement, excluded from every number."""
    concurrency: int = Field(8, ge=1, le=1024)
    """Closed loop: requests in flight. Warm-up uses it too."""
    rate_per_s: float = Field(4.0, gt=0, le=100_000)
    """Open loop: mean arrivals a second."""
    max_tokens: int = Field(64, ge=1, le=65_536)
    """Longest answer."""
    timeout_s: float = Field(120, gt=0)
    """A request slower than this is an error."""
    seed: int = 0
    """Of the arrival times."""


class RequestTiming(BaseModel):
    """One request as observed. Seconds; in the open loop counted from the planned arrival, so that waiting counts."""

    model_config = ConfigDict(frozen=True)

    first_token_s: float = 0.0
    total_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""

    @property
    def per_token_s(self) -> float | None:
        """Mean time of each token after the first; None for answers of one token."""
        after_first = self.completion_tokens - 1
        return (self.total_s - self.first_token_s) / after_first if after_first > 0 else None


class Percentiles(BaseModel):
    """Of `n` values, in milliseconds; linear interpolation."""

    model_config = ConfigDict(frozen=True)

    n: int
    mean: float
    p50: float
    p95: float
    p99: float


class LoadReport(BaseModel):
    """What a load run measured. Percentiles are over requests without error, None where there were none."""

    model_config = ConfigDict(frozen=True)

    spec: LoadSpec
    model: str
    warmup_excluded: int
    seconds: float
    """From the first measured request to the end of the last."""
    ttft_ms: Percentiles | None
    """Time to first token."""
    tpot_ms: Percentiles | None
    """Time per output token after the first."""
    e2e_ms: Percentiles | None
    """Whole answer."""
    requests_per_s: float
    output_tokens_per_s: float
    prompt_tokens: int
    cached_tokens: int
    errors: dict[str, int]
    """Error message → how often."""
    timings: tuple[RequestTiming, ...]
    """Raw, in order of sending."""

    @property
    def requests(self) -> int:
        """Measured requests, failed ones included."""
        return len(self.timings)

    def metrics(self) -> dict[str, float]:
        """The numbers under flat names, for a run's metrics; times in milliseconds."""
        flat = {
            "requests": float(self.requests),
            "errors": float(sum(self.errors.values())),
            "warmup_excluded": float(self.warmup_excluded),
            "requests_per_s": self.requests_per_s,
            "output_tokens_per_s": self.output_tokens_per_s,
            "cached_token_share": self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0,
        }
        for name, summary in (("ttft", self.ttft_ms), ("tpot", self.tpot_ms), ("e2e", self.e2e_ms)):
            if summary is not None:
                flat |= {f"{name}_{key}_ms": getattr(summary, key) for key in ("mean", "p50", "p95", "p99")}
        return flat


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """Summary of durations in seconds as milliseconds; None of none."""
    if not seconds:
        return None
    values = np.asarray(seconds) * 1000
    p50, p95, p99 = (float(value) for value in np.percentile(values, [50, 95, 99]))
    return Percentiles(n=len(values), mean=float(values.mean()), p50=p50, p95=p95, p99=p99)


def arrivals(count: int, rate_per_s: float, seed: int) -> list[float]:
    """Arrival times in seconds of a Poisson process: exponential gaps, the first at 0."""
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return [float(at) for at in np.cumsum(gaps) - gaps[0]]


def summarize(spec: LoadSpec, model: str, timings: Sequence[RequestTiming], seconds: float, warmup: int) -> LoadReport:
    """The report of raw timings."""
    good = [timing for timing in timings if not timing.error]
    return LoadReport(
        spec=spec,
        model=model,
        warmup_excluded=warmup,
        seconds=seconds,
        ttft_ms=percentiles([timing.first_token_s for timing in good]),
        tpot_ms=percentiles([value for timing in good if (value := timing.per_token_s) is not None]),
        e2e_ms=percentiles([timing.total_s for timing in good]),
        requests_per_s=len(good) / seconds,
        output_tokens_per_s=sum(timing.completion_tokens for timing in good) / seconds,
        prompt_tokens=sum(timing.prompt_tokens for timing in good),
        cached_tokens=sum(timing.cached_tokens for timing in good),
        errors=dict(Counter(timing.error for timing in timings if timing.error)),
        timings=tuple(timings),
    )


async def _request(
    engine: OpenAIEngine, spec: LoadSpec, model: str, prompt: Sequence[Message], begin: float
) -> RequestTiming:
    """Send one request and time it from `begin` (a `perf_counter` value)."""
    first, usage = 0.0, Piece()
    try:
        async with asyncio.timeout(spec.timeout_s):
            async for piece in engine.pieces(model, prompt, max_tokens=spec.max_tokens):
                if piece.text and not first:
                    first = time.perf_counter() - begin
                usage = piece if piece.prompt_tokens else usage
    except (SluiceError, TimeoutError) as error:
        return RequestTiming(total_s=time.perf_counter() - begin, error=str(error) or "timeout")
    total = time.perf_counter() - begin
    return RequestTiming(
        first_token_s=first or total,
        total_s=total,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
    )


async def _closed(engine: OpenAIEngine, spec: LoadSpec, model: str, prompts: Prompts) -> list[RequestTiming]:
    """Each of `concurrency` workers takes the next prompt as soon as its last answer is whole."""
    timings: dict[int, RequestTiming] = {}
    numbers = iter(range(len(prompts)))

    async def work() -> None:
        for number in numbers:
            timings[number] = await _request(engine, spec, model, prompts[number], time.perf_counter())

    await asyncio.gather(*(work() for _ in range(spec.concurrency)))
    return [timings[number] for number in sorted(timings)]


async def _open(engine: OpenAIEngine, spec: LoadSpec, model: str, prompts: Prompts) -> list[RequestTiming]:
    """Send each prompt at its planned time. Latency counts from the plan, so a late sender hides nothing."""
    begin = time.perf_counter()

    async def send(at: float, prompt: Sequence[Message]) -> RequestTiming:
        await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
        return await _request(engine, spec, model, prompt, begin + at)

    planned = arrivals(len(prompts), spec.rate_per_s, spec.seed)
    return await asyncio.gather(*(send(at, prompt) for at, prompt in zip(planned, prompts, strict=True)))


def _cycle(prompts: Prompts, first: int, count: int) -> Prompts:
    return [prompts[number % len(prompts)] for number in range(first, first + count)]


async def measure_load(base_url: str, model: str, prompts: Prompts, spec: LoadSpec) -> LoadReport:
    """Put load on the engine at `base_url` and report; failed requests are counted, never raised.

    Warm-up takes the last prompts of the cycle, so that it does not fill the prefix cache with the measured ones.

    Raises: InputError without prompts.
    """
    if not prompts:
        raise InputError("load: no prompts; give at least one list of messages")
    connections = max(spec.concurrency, spec.requests if spec.mode == "open" else 0)
    engine = OpenAIEngine(base_url, spec.timeout_s, connections=min(connections, 1024))
    try:
        await _closed(engine, spec, model, _cycle(prompts, spec.requests, spec.warmup))
        loop = _closed if spec.mode == "closed" else _open
        begin = time.perf_counter()
        timings = await loop(engine, spec, model, _cycle(prompts, 0, spec.requests))
        seconds = time.perf_counter() - begin
    finally:
        await engine.close()
    return summarize(spec, model, timings, seconds, spec.warmup)
