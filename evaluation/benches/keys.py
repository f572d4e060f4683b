"""Bench: what a key costs a request, and how often and how soon the alarm on its token use is raised."""

import asyncio
import random
import statistics
import time
import uuid

import numpy as np

from evaluation.benches import BenchRow
from infra.cost import TokenPrices
from infra.records import ApiKey, key_digest
from infra.settings import Settings
from models.serving.anomaly import KeyWatch
from models.serving.entrance import Entrance
from models.serving.keys import caller
from models.serving.limits import Ledger, Limits, OwnLedger
from models.serving.meter import Meter
from models.serving.redis_ledger import RedisLedger

KEYS, REQUESTS = 1000, 20_000
BODY = b'{"question": "' + b"x" * 300 + b'"}'
LARGE = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, money_per_day=1e9)
RUNS, CALM, LIMIT = 300, 300, 10_000


def run(settings: Settings) -> list[BenchRow]:
    """Every row; those of Redis only where SLUICE_REDIS_URL names one."""
    rows = _admission("in this process", OwnLedger(), REQUESTS)
    if url := settings.redis_url.get_secret_value():
        rows += _admission("in Redis", RedisLedger(url, prefix=f"sluice:bench:{uuid.uuid4()}:"), REQUESTS // 5)
    return [*rows, *_alarms()]


def _admission(name: str, ledger: Ledger, requests: int) -> list[BenchRow]:
    took = sorted(asyncio.run(_admitted(ledger, requests)))
    middle, tail = took[len(took) // 2], took[int(len(took) * 0.99)]
    return [
        BenchRow(name=f"key, limits and body, counted {name}: P50", value=middle, unit="ms"),
        BenchRow(name=f"key, limits and body, counted {name}: P99", value=tail, unit="ms"),
        BenchRow(name=f"key, limits and body, counted {name}: mean", value=statistics.mean(took), unit="ms"),
    ]


async def _admitted(ledger: Ledger, requests: int) -> list[float]:
    """Milliseconds of each request through the entrance to an application that does nothing."""
    names = [f"key-{number}" for number in range(KEYS)]
    keys = {
        key_digest(name): ApiKey(digest=key_digest(name), name=name, role="user", access=["public"], created=0.0)
        for name in names
    }

    async def find(authorization: str) -> ApiKey | None:
        return caller(authorization, keys)

    async def nothing(scope: object, receive: object, send: object) -> None:
        scope["state"]["usage"].known = True  # type: ignore[index]  # an ASGI scope

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(_: object) -> None:
        raise AssertionError("every request is let in")

    meter = Meter(ledger, LARGE, 900, TokenPrices(prompt=1.0, completion=2.0))
    entrance = Entrance(nothing, find, meter, 65_536, 64)
    took = []
    for number in range(requests):
        head = [(b"authorization", f"Bearer {names[number % KEYS]}".encode()), (b"content-length", b"315")]
        scope = {"type": "http", "path": "/v1/answers", "headers": head, "state": {}}
        begin = time.perf_counter()
        await entrance(scope, receive, send)
        took.append((time.perf_counter() - begin) * 1000)
    await ledger.close()
    return took


def _alarms() -> list[BenchRow]:
    """Windows until an alarm on use with a long tail: without a change, and after its tokens have grown."""
    chance = np.random.default_rng(1)
    lengths = [_windows(KeyWatch(200, _ties(run)), chance, 1.0, 4000) for run in range(RUNS)]
    error = 1.96 * statistics.stdev(lengths) / RUNS**0.5
    mean = statistics.mean(lengths)
    name = "windows to a false alarm, stated 200 at least"
    rows = [BenchRow(name=name, value=mean, unit="windows", low=mean - error, high=mean + error)]
    for growth in (2.0, 5.0, 10.0):
        delays = []
        for run in range(RUNS):
            watch = KeyWatch(LIMIT, _ties(run))
            _windows(watch, chance, 1.0, CALM)
            delays.append(_windows(watch, chance, growth, 1000))
        for share in (0.5, 0.9):
            name = f"windows to the alarm at {growth:g} times the tokens, P{share * 100:.0f}"
            rows.append(BenchRow(name=name, value=float(np.quantile(delays, share)), unit="windows"))
    return rows


def _ties(run: int) -> random.Random:
    return random.Random(run)  # noqa: S311  # reproducible


def _windows(watch: KeyWatch, chance: np.random.Generator, growth: float, most: int) -> int:
    """Windows until an alarm, or `most`."""
    for count in range(1, most + 1):
        if watch.window(growth * float(chance.lognormal(6, 1))):
            return count
    return most
