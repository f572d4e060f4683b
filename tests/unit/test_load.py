"""Load: figures from raw timings that are known, and the generator beside a server whose pace is known."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evaluation.load import LoadReport, LoadSpec, RequestTiming, Slo, percentiles, summarize
from evaluation.loading.engine_metrics import Sample, engine_figures, parse_metrics
from evaluation.loading.fake import FakeEngine
from evaluation.loading.generator import arrivals, measure_load, payload
from evaluation.loading.prompts import LoadPrompt, plain
from infra.errors import InputError
from models.types import Message

PROMPTS = plain([[Message(role="user", content="one two three")], [Message(role="user", content="x " * 40)]])


def timing(total: float, tokens: int = 5, first: float = 0.1, **more: object) -> RequestTiming:
    values = {"first_token_s": first, "total_s": total, "prompt_tokens": 10, "completion_tokens": tokens, **more}
    return RequestTiming.model_validate(values)


def test_percentiles_are_those_of_the_values() -> None:
    summary = percentiles([number / 1000 for number in range(1, 101)])
    assert summary is not None
    assert summary.n == 100
    assert summary.p50 == pytest.approx(50.5)
    assert summary.mean == pytest.approx(50.5)
    assert summary.p95 == pytest.approx(95.05)
    assert summary.p99 == pytest.approx(99.01)
    assert percentiles([]) is None


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_within_the_values(values: list[float]) -> None:
    summary = percentiles(values)
    assert summary is not None
    slack = 1e-6
    assert min(values) * 1000 - slack <= summary.p50 <= summary.p95 + slack
    assert summary.p95 <= summary.p99 + slack <= max(values) * 1000 + 2 * slack


def test_time_per_token_leaves_the_first_token_out() -> None:
    assert timing(0.9, tokens=5, first=0.1).per_token_s == pytest.approx(0.2)
    assert timing(0.9, tokens=1).per_token_s is None


def test_errors_are_counted_by_kind_and_left_out_of_the_times() -> None:
    rows = [timing(1.0), timing(99, error="http: 503 full"), timing(3.0), timing(99, error="http: 500 out of memory")]
    report = summarize(LoadSpec(), "m", rows, 4.0, 8)
    assert report.errors == {"http: 503 full": 1, "http: 500 out of memory": 1}
    assert report.errors_by_kind == {"http": 2}
    assert report.e2e_ms is not None
    assert report.e2e_ms.mean == pytest.approx(2000)
    assert report.output_tokens_per_s == pytest.approx(2.5)
    assert report.requests_per_s == pytest.approx(0.5)
    assert (report.requests, report.warmup_excluded) == (4, 8)
    metrics = report.metrics()
    assert metrics["errors"] == 2
    assert metrics["ttft_ms_p50"] == pytest.approx(100)
    assert "goodput_per_s" not in metrics


def test_goodput_counts_the_requests_within_every_limit() -> None:
    slo = Slo(ttft_ms=200, itl_ms=50, e2e_ms=2000, share=0.9)
    even, stalled = (0.01,) * 20, (0.01,) * 18 + (0.4, 0.4)
    rows = [
        timing(1.0, gaps_s=even),
        timing(1.0, gaps_s=even, first=0.3),
        timing(1.0, gaps_s=stalled),
        timing(2.5, gaps_s=even),
        timing(0.1, error="timeout: no whole answer"),
    ]
    assert [row.is_good(slo) for row in rows] == [True, False, False, False, False]
    report = summarize(LoadSpec(slo=slo), "m", rows, 10.0, 0)
    assert (report.goodput_per_s, report.good_share) == (0.1, 0.2)
    assert report.itl_ms is not None
    assert report.itl_ms.n == 80
    assert report.itl_ms.p99 == pytest.approx(400)
    with pytest.raises(ValidationError, match="at least one of"):
        Slo(share=0.9)


def test_short_and_long_prompts_apart() -> None:
    rows = [timing(1.0, prompt_tokens=100), timing(3.0, prompt_tokens=900), timing(5.0, prompt_tokens=500)]
    report = summarize(LoadSpec(long_from_tokens=500), "m", rows, 2.0, 0)
    assert {name: figures.requests for name, figures in report.classes.items()} == {"short": 1, "long": 2}
    long = report.classes["long"]
    assert long.e2e_ms is not None
    assert long.e2e_ms.mean == pytest.approx(4000)
    assert long.request_seconds == 8
    assert report.metrics()["long/requests_per_s"] == 1
    assert set(summarize(LoadSpec(long_from_tokens=5000), "m", rows, 2.0, 0).classes) == {"short"}


def test_arrivals_are_a_seeded_poisson_process() -> None:
    times = arrivals(20_000, 5.0, seed=3)
    gaps = np.diff(times)
    assert times == arrivals(20_000, 5.0, seed=3)
    assert times != arrivals(20_000, 5.0, seed=4)
    assert times[0] == 0
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() == pytest.approx(0.2, rel=0.05)
    counts = np.bincount(np.array(times).astype(int))  # of whole seconds: mean and variance agree in a Poisson process
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)


METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="base"} 3.0
vllm:num_requests_running{engine="1",model_name="base"} 2.0
vllm:num_requests_waiting{engine="0",model_name="base"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:prefix_cache_queries_total{engine="0"} 1000.0
vllm:prefix_cache_queries_created{engine="0"} 1.76e+09
vllm:prefix_cache_hits_total{engine="0"} 100.0
vllm:request_queue_time_seconds_bucket{le="0.3"} 4.0
vllm:request_queue_time_seconds_sum{engine="0"} 2.0
vllm:request_queue_time_seconds_count{engine="0"} 10.0
"""


def test_the_engines_metrics_are_read_and_what_is_absent_is_said() -> None:
    before = parse_metrics(METRICS)
    assert before["vllm:num_requests_running"] == 5
    assert "vllm:num_requests_waiting_by_reason" not in before
    after = before | {
        "vllm:prefix_cache_queries_total": 3000.0, "vllm:prefix_cache_hits_total": 1600.0,
        "vllm:request_queue_time_seconds_sum": 3.0, "vllm:request_queue_time_seconds_count": 30.0,
        "vllm:kv_cache_usage_perc": 0.0,
    }  # fmt: skip
    figures = engine_figures(
        [Sample(0, before), Sample(1, before | {"vllm:kv_cache_usage_perc": 0.9}), Sample(2, after)]
    )
    assert figures.queue_ms == pytest.approx(50)
    assert figures.prefix_hit_share == 0.75
    assert (figures.kv_use_peak, figures.running_peak, figures.waiting_peak, figures.samples) == (0.9, 5, 0, 3)
    assert figures.preemptions is None
    assert figures.absent == ("preemptions",)
    assert "preemptions" not in figures.told()
    restarted = engine_figures([Sample(0, after), Sample(1, before)])
    assert "prefix_hit_share" in restarted.absent, "a counter that fell belongs to another process"
    assert set(engine_figures([]).absent) == set(figures.told()) | {"preemptions"}


async def test_a_closed_loop_keeps_its_requests_in_flight() -> None:
    engine = FakeEngine(token_s=0.01, slots=3)
    async with engine.serving() as url:
        spec = LoadSpec(requests=12, warmup=2, concurrency=4, max_tokens=5, sample_s=0.05, long_from_tokens=10)
        report = await measure_load(url, "base", PROMPTS, spec)
    assert (report.requests, report.errors, report.stopped, report.unfinished) == (12, {}, "", 0)
    assert all(row.completion_tokens == 5 and len(row.gaps_s) == 4 for row in report.timings)
    assert all(row.first_token_s + sum(row.gaps_s) <= row.total_s + 1e-5 for row in report.timings)
    assert report.itl_ms is not None and report.itl_ms.n == 48
    assert report.output_tokens_per_s == pytest.approx(60 / report.seconds)
    assert {name: figures.requests for name, figures in report.classes.items()} == {"short": 6, "long": 6}
    assert engine.admitted == 14
    assert report.engine is not None and report.engine.running_peak is not None
    assert report.engine.running_peak <= 3, "slots"
    assert report.engine.absent == ("preemptions", "prefix_hit_share")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_open_loop_sends_as_planned_and_times_from_the_plan(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    spec = LoadSpec(mode="open", requests=40, warmup=1, rate_per_s=200, max_tokens=3, seed=7)

    async def measure() -> LoadReport:
        async with FakeEngine(token_s=0.005, slots=64).serving() as url:
            return await measure_load(url + "/v1", "base", PROMPTS, spec)

    with asyncio.Runner(loop_factory=loop) as runner:
        report = runner.run(measure())
    assert report.errors == {}
    assert [row.sent_s for row in report.timings] == pytest.approx(arrivals(40, 200, seed=7), abs=1e-5)
    assert all(row.first_token_s >= row.late_s for row in report.timings)
    assert report.spec == spec


async def test_a_model_that_is_not_there_is_an_error_a_request_until_the_rest_is_given_up() -> None:
    async with FakeEngine().serving() as url:
        report = await measure_load(url, "nobody", PROMPTS, LoadSpec(requests=100, warmup=1, give_up_after=10))
    assert report.errors_by_kind.keys() == {"http"}
    assert 10 <= report.requests < 20
    assert report.stopped.startswith("gave up after 10 failures in a row: http: 404 The model `nobody`")
    assert report.e2e_ms is None


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(reply: bytes, hangs: bool = False) -> AsyncIterator[str]:
    """A server that answers a chat request with these bytes and closes the connection, or keeps it open."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            writer.write(reply)
            await writer.drain()
            if hangs:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def stream(*events: object, end: str = "\n\n") -> bytes:
    body = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}{end}" for event in events)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body.encode()


def delta(**values: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": values, "finish_reason": None}]}


ROLE, WORD = delta(role="assistant", content=""), delta(content="a")
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("reply", "hangs", "says"),
    [
        (b"", False, "lost: the connection broke before the answer was whole"),
        (stream(ROLE, WORD), False, "lost: the connection broke before the answer was whole"),
        (stream(WORD), True, "timeout: no whole answer within 0.3 s"),
        (stream(WORD, {"error": {"message": "engine died"}}), False, "stream: engine died"),
        (stream("{broken"), False, "stream: no JSON: b'{broken'"),
        (b"what is this?\r\n\r\n", True, "stream: no HTTP: "),
        (b'HTTP/1.1 503 X\r\ncontent-length: 23\r\n\r\n{"error":{"message":"a"}}', False, "http: 503 "),
        (b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}", False, "stream: it ended without [DONE]"),
    ],
)
async def test_every_way_to_fail_is_one_counted_error(reply: bytes, hangs: bool, says: str) -> None:
    async with answering(reply, hangs) as url:
        report = await measure_load(url, "m", PROMPTS, LoadSpec(requests=2, warmup=0, concurrency=2, timeout_s=0.3))
    assert report.requests == 2
    assert [error.startswith(says) for error in report.errors] == [True], report.errors
    assert report.engine is not None and report.engine.preemptions is None


async def test_no_server_at_all() -> None:
    async with answering(b"") as url:
        pass
    report = await measure_load(url, "m", PROMPTS, LoadSpec(requests=50, warmup=4, concurrency=2, give_up_after=4))
    assert report.errors_by_kind.keys() == {"connect"}
    assert 4 <= report.requests <= 6
    assert report.stopped.startswith("gave up after 4 failures in a row: connect: ")


async def test_other_dialects_of_the_protocol() -> None:
    """Line ends of other servers, no usage, an answer closed by the end of the connection, thoughts before words."""
    thought = delta(reasoning_content="hm")
    async with answering(stream(ROLE, thought, WORD, STOP, "[DONE]", end="\r\n\r\n")) as url:
        report = await measure_load(url, "m", PROMPTS, LoadSpec(requests=1, warmup=0))
    (row,) = report.timings
    assert (row.error, row.completion_tokens, row.is_counted, len(row.gaps_s)) == ("", 2, False, 1)


async def test_an_engine_that_dies_in_the_middle_leaves_a_report() -> None:
    engine = FakeEngine(token_s=0.01, slots=8)
    async with engine.serving() as url:
        spec = LoadSpec(requests=500, warmup=0, concurrency=8, max_tokens=10, give_up_after=16, sample_s=0.05)
        measuring = asyncio.create_task(measure_load(url, "base", PROMPTS, spec))
        await engine.reached(24)
    for one in [*engine.active, *engine.waiting]:
        one.writer.transport.abort()
    report = await measuring
    fine = report.e2e_ms
    assert fine is not None and fine.n >= 8
    assert set(report.errors_by_kind) <= {"lost", "connect"} and sum(report.errors.values()) >= 16
    assert report.stopped.startswith("gave up after 16 failures in a row")
    assert report.requests < 500


async def test_load_without_prompts_or_address_is_refused() -> None:
    with pytest.raises(InputError, match="no prompts"):
        await measure_load("http://127.0.0.1:9", "m", [], LoadSpec())
    with pytest.raises(InputError, match="not an address"):
        await measure_load("localhost:8000", "m", PROMPTS, LoadSpec())


def test_a_request_asks_for_a_counted_stream() -> None:
    own = LoadPrompt(messages=PROMPTS[0].messages, max_tokens=7)
    body = json.loads(payload(own, "m", LoadSpec(ignore_eos=True)))
    assert (body["max_tokens"], body["ignore_eos"], body["stream_options"]) == (7, True, {"include_usage": True})
    body = json.loads(payload(PROMPTS[0], "m", LoadSpec(max_tokens=9)))
    assert body["max_tokens"] == 9
    assert "ignore_eos" not in body, "a field that only vLLM knows"
