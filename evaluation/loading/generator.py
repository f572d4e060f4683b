"""Puts load on an OpenAI-compatible server: closed loop (fixed concurrency) or open loop (Poisson arrivals)."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import numpy as np
import orjson

from evaluation.load import LoadReport, LoadSpec, RequestTiming, summarize
from evaluation.loading.client import LoadClient, Reply
from evaluation.loading.engine_metrics import Sample, engine_figures, parse_metrics
from evaluation.loading.prompts import LoadPrompt
from evaluation.loading.stopping import Look
from infra.errors import InputError

METRICS_TIMEOUT_S = 5.0
DETAIL = 160
"""Characters of an error that are kept, so that one kind of error is one line."""

StopRule = Callable[[Sequence[Look], Sequence[RequestTiming], LoadSpec], str]
"""(course, ended requests, spec) → why to stop now, or nothing."""


def arrivals(count: int, rate_per_s: float, seed: int) -> list[float]:
    """Arrival times in seconds of a Poisson process: exponential gaps, the first at 0."""
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return [float(at) for at in np.cumsum(gaps) - gaps[0]]


async def until(moment: float) -> None:
    """Return at a moment of `time.perf_counter`, not before: uvloop wakes up to half a millisecond early."""
    while (wait := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - nobody could set an event at the moment
        await asyncio.sleep(wait)


def payload(prompt: LoadPrompt, model: str, spec: LoadSpec) -> bytes:
    """The body of a streamed chat request."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [message.model_dump() for message in prompt.messages],
        "max_tokens": prompt.max_tokens or spec.max_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return orjson.dumps(body | ({"ignore_eos": True} if spec.ignore_eos else {}))


def timing_of(reply: Reply, planned: float, sent: float, begin: float, ended: float, tokens: int) -> RequestTiming:
    """What a reply says, timed from `planned`; times are `perf_counter` values, `tokens` the prompt's where known."""
    common = {"sent_s": round(planned - begin, 6), "late_s": round(max(0.0, sent - planned), 6)}
    if reply.error:
        error = reply.error[:DETAIL]
        return RequestTiming(
            **common, total_s=ended - planned, prompt_tokens=reply.prompt_tokens or tokens, error=error
        )
    last = reply.ended_at or ended
    counted = reply.completion_tokens is not None
    return RequestTiming(
        **common,
        first_token_s=(reply.tokens_at[0] if reply.tokens_at else last) - planned,
        total_s=last - planned,
        gaps_s=tuple(round(after - before, 6) for before, after in itertools.pairwise(reply.tokens_at)),
        prompt_tokens=reply.prompt_tokens or tokens,
        cached_tokens=reply.cached_tokens,
        completion_tokens=reply.completion_tokens if reply.completion_tokens is not None else len(reply.tokens_at),
        is_counted=counted,
    )


class _Run:
    """One loop over prepared requests: what was sent, what came back, and why it ended early."""

    def __init__(self, client: LoadClient, spec: LoadSpec, prompts: Sequence[LoadPrompt], model: str) -> None:
        self.client = client
        self.spec = spec
        self.requests = [(payload(prompt, model, spec), prompt.tokens) for prompt in prompts]
        self.timings: dict[int, RequestTiming] = {}
        self.sent = 0
        self.stopped = ""
        self.begin = time.perf_counter()
        self._failures = 0
        self._over = asyncio.Event()

    @property
    def ended(self) -> list[RequestTiming]:
        """Requests that have ended, in order of sending."""
        return [self.timings[number] for number in sorted(self.timings)]

    def look(self) -> Look:
        """The run now."""
        return Look(time.perf_counter() - self.begin, self.sent, len(self.timings))

    def stop(self, reason: str) -> None:
        """Send nothing more and drop what is in flight."""
        self.stopped = self.stopped or reason
        self._over.set()

    async def stopping(self) -> None:
        """Wait until the run is stopped."""
        await self._over.wait()

    async def closed(self) -> None:
        """Each of `concurrency` workers takes the next prompt as soon as its last answer is whole."""
        numbers = iter(range(len(self.requests)))

        async def work() -> None:
            for number in numbers:
                await self._send(number, time.perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.spec.concurrency, len(self.requests))):
                group.create_task(work())

    async def open(self) -> None:
        """Send each prompt at its planned time. Latency counts from the plan, so a late sender hides nothing."""
        async with asyncio.TaskGroup() as group:
            for number, at in enumerate(arrivals(len(self.requests), self.spec.rate_per_s, self.spec.seed)):
                planned = self.begin + at
                await until(planned)
                group.create_task(self._send(number, planned))

    async def _send(self, number: int, planned: float) -> None:
        body, tokens = self.requests[number]
        self.sent += 1
        sent = time.perf_counter()
        reply = await self.client.chat(body, self.spec.timeout_s)
        self.timings[number] = timing_of(reply, planned, sent, self.begin, time.perf_counter(), tokens)
        self._failures = self._failures + 1 if reply.error else 0
        if self._failures >= self.spec.give_up_after:
            self.stop(f"gave up after {self._failures} failures in a row: {reply.error[:DETAIL]}")


class _Scraper:
    """Looks at the server's `/metrics`; one that has none gives no sample."""

    def __init__(self, base_url: str, api_key: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=METRICS_TIMEOUT_S, trust_env=False)
        self._url = base_url.rstrip("/").removesuffix("/v1") + "/metrics"
        self.samples: list[Sample] = []

    async def look(self, at_s: float) -> None:
        """Keep a sample, if the server gives one; one that gave none before the load is not asked again."""
        if at_s and not self.samples:
            return
        try:
            reply = await self._http.get(self._url)
        except httpx.HTTPError:  # counted where it matters: the requests of the load fail too
            return
        if reply.status_code == httpx.codes.OK:
            values = parse_metrics(reply.text)
            if values:
                self.samples.append(Sample(at_s, values))

    async def close(self) -> None:
        await self._http.aclose()


async def _watch(run: _Run, scraper: _Scraper, stop_when: StopRule | None) -> None:
    """Sample the engine and the run until cancelled."""
    looks: list[Look] = []
    while True:
        await asyncio.sleep(run.spec.sample_s)
        looks.append(run.look())
        if stop_when and (reason := stop_when(looks, run.ended, run.spec)):
            run.stop(reason)
        await scraper.look(looks[-1].at_s)


async def _until_over(run: _Run, *work: Coroutine[Any, Any, None]) -> None:
    """Do this until the first of it ends or the run is stopped; the rest is cancelled. An error in it is raised."""
    tasks = [asyncio.ensure_future(one) for one in (*work, run.stopping())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


def _cycle(prompts: Sequence[LoadPrompt], first: int, count: int) -> list[LoadPrompt]:
    return [prompts[number % len(prompts)] for number in range(first, first + count)]


async def measure_load(
    base_url: str,
    model: str,
    prompts: Sequence[LoadPrompt],
    spec: LoadSpec,
    *,
    api_key: str = "",
    first: int = 0,
    stop_when: StopRule | None = None,
) -> LoadReport:
    """Put load on the server at `base_url` and report; failed requests are counted, never raised.

    Prompts are taken from number `first` on. Warm-up takes those behind the measured ones, so that it does not fill
    the prefix cache with them. A server that dies in the middle ends the run with what there is.

    Raises: InputError without prompts and for an address that is none.
    """
    if not prompts:
        raise InputError("load: no prompts; give at least one list of messages")
    client, scraper = LoadClient(base_url, api_key), _Scraper(base_url, api_key)
    try:
        warmup = _Run(client, spec, _cycle(prompts, first + spec.requests, spec.warmup), model)
        await _until_over(warmup, warmup.closed())
        await scraper.look(0.0)
        run = _Run(client, spec, _cycle(prompts, first, spec.requests), model)
        cpu = time.thread_time()
        await _until_over(run, run.closed() if spec.mode == "closed" else run.open(), _watch(run, scraper, stop_when))
        seconds, cpu_s = time.perf_counter() - run.begin, time.thread_time() - cpu
        await scraper.look(seconds)
    finally:
        client.close()
        await scraper.close()
    return summarize(
        spec,
        model,
        run.ended,
        seconds,
        spec.warmup,
        engine=engine_figures(scraper.samples),
        cpu_s=cpu_s,
        unfinished=run.sent - len(run.timings),
        stopped=run.stopped,
    )


def run_load(
    base_url: str,
    model: str,
    prompts: Sequence[LoadPrompt],
    spec: LoadSpec,
    *,
    api_key: str = "",
    first: int = 0,
    stop_when: StopRule | None = None,
) -> LoadReport:
    """`measure_load` on an event loop of its own, uvloop's, which halves the cost of an event."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            measure_load(base_url, model, prompts, spec, api_key=api_key, first=first, stop_when=stop_when)
        )
