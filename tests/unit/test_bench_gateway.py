"""The gateway bench: arithmetic of its rows, its upstream under the load client, and what its load counts."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest

from evaluation.benches.gatewaying.driving import Told, best_level, body, closed_load, open_load
from evaluation.benches.gatewaying.measuring import cpu_s, until_idle
from evaluation.benches.gatewaying.peers import Target, free_port
from evaluation.benches.gatewaying.rows import added_rows, engine_row, peer_rows, rate_row
from evaluation.benches.gatewaying.upstream import Connection
from evaluation.loading.search import Tried
from infra.errors import SetupError


def told(*latencies: float, errors: tuple[str, ...] = ()) -> Told:
    """Every second one streamed, as the load asks."""
    streamed = tuple(number % 2 == 1 for number in range(len(latencies)))
    return Told(latencies, streamed, errors, seconds=1.0, late_p99_ms=0.0)


ROUNDS = [
    {"direct": told(1, 1), "ours": told(3, 5), "LiteLLM proxy": told(10, 30)},
    {"direct": told(1, 3), "ours": told(3, 5), "LiteLLM proxy": told(8, 8)},
    {"direct": told(2, 2), "ours": told(10, 10), "LiteLLM proxy": told(20, 20, errors=("http: 500",))},
]


def test_added_latency_is_ours_less_direct_round_by_round() -> None:
    rows = {row.name: row for row in added_rows(ROUNDS)}
    assert list(rows)[:2] == ["added_p50_ms", "added_p99_ms"]
    assert (rows["added_p50_ms"].value, rows["added_p50_ms"].low, rows["added_p50_ms"].high) == (3, 2, 8)
    assert rows["added_p99_ms"].value == pytest.approx(3.98)
    assert rows["added_p50_ms, streamed"].value == 4
    assert rows["added_p50_ms, whole"].value == 2


def test_ratios_to_a_peer_and_its_failures() -> None:
    median, tail = peer_rows(ROUNDS, "LiteLLM proxy")
    assert (median.name, tail.name) == ("p50_vs_litellm", "p99_vs_litellm")
    assert (median.value, median.peer_value) == (4, 20)
    assert (median.ratio, median.low, median.high) == (0.5, 0.2, 0.5)
    assert median.peer == "LiteLLM proxy, 1 requests failed"
    with pytest.raises(SetupError, match="1 of our requests failed: lost"):
        peer_rows([ROUNDS[0] | {"ours": told(1, errors=("lost",))}], "LiteLLM proxy")


def test_rates_and_the_engines_tokens() -> None:
    assert rate_row("MLflow gateway", 300, 60).model_dump(include={"name", "ratio"}) == {
        "name": "rps_vs_mlflow", "ratio": 5,
    }  # fmt: skip
    row = engine_row("engine_ratio", [(99, 100), (90, 100), (110, 110)])
    assert (row.name, row.ratio, row.low, row.high) == ("engine_ratio", 0.99, 0.9, 1.0)
    tried = [Tried(level=level, is_within=level < 100, why="") for level in (50, 100, 75)]
    assert best_level(tried, "x") == 75
    with pytest.raises(SetupError, match="at no rate"):
        best_level(tried[1:2], "x")


def test_a_limit_is_missed_by_one_error_or_a_slow_hundredth() -> None:
    assert told(*[1.0] * 200).is_within
    assert not told(1.0, errors=("http: 429",)).is_within
    assert not told(*[1.0] * 90, *[60.0] * 10).is_within
    with pytest.raises(SetupError, match="every request failed"):
        told(errors=("connect: refused",)).quantile(0.5)


@pytest.fixture
def upstream() -> Iterator[Target]:
    port = free_port()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Connection, "127.0.0.1", port))
    worker = Thread(target=loop.run_forever)
    worker.start()
    yield Target("direct", f"http://127.0.0.1:{port}", "instant")
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    worker.join()
    loop.close()


def test_the_load_asks_half_as_streams_and_counts_every_answer(upstream: Target) -> None:
    assert [body(upstream, number)[1] for number in range(4)] == [False, True, False, True]
    closed = closed_load(upstream, 4, 40)
    assert (len(closed.latencies_ms), sum(closed.streamed), closed.errors) == (40, 20, ())
    steady = open_load(upstream, 200, 0.2)
    assert (len(steady.latencies_ms), steady.errors) == (40, ())
    gone = closed_load(Target("gone", "http://127.0.0.1:9", "instant"), 2, 3)
    assert len(gone.errors) == 3


def test_nobody_begins_before_the_others_are_idle() -> None:
    work = "import sys, time\nwhile time.process_time() < 2: pass\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, start_new_session=True) as process:
        until_idle([process.pid])
        assert cpu_s([process.pid]) >= 1.9
        process.kill()
