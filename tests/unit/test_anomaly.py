"""The alarm on a key's token use: the stated rate of false alarms by simulation, and how soon a surge is told."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from infra.records import Records
from models.serving.anomaly import KEPT, AnomalySpec, KeyWatch, TokenWatch, bet, rank
from tests.live_gateway import QUESTION, SPEC, USER, in_process, make_app, open_records

RUNS, LIMIT = 300, 200
Draw = Callable[[np.random.Generator], float]
USES: dict[str, Draw] = {
    "always the same": lambda _: 500.0,
    "long tail": lambda chance: float(chance.lognormal(6, 1.5)),
    "few values": lambda chance: float(chance.integers(1, 4) * 300),
    "mostly nothing": lambda chance: float(chance.random() < 0.05) * 4000,
}


def seeded(number: int) -> random.Random:
    return random.Random(number)  # noqa: S311  # reproducible


def windows_until_alarm(watch: KeyWatch, draw: Draw, chance: np.random.Generator, most: int) -> int:
    for count in range(1, most + 1):
        if watch.window(draw(chance)):
            return count
    return most


def test_a_bet_on_uniform_shares_is_fair() -> None:
    assert quad(bet, 0, 1)[0] == pytest.approx(1.0)
    assert bet(0.001) > bet(0.01) > 1 > bet(0.5) > bet(1.0)


def test_ranks_of_what_does_not_change_are_uniform() -> None:
    chance, ties = np.random.default_rng(3), seeded(3)
    shares = []
    for _ in range(400):
        earlier: list[float] = []
        for _ in range(10):
            value = float(chance.integers(3))
            shares.append(rank(earlier, value, 1 - ties.random()))
            earlier = sorted([*earlier, value])
    quantiles = np.quantile(shares, [0.1, 0.25, 0.5, 0.75, 0.9])
    assert np.abs(quantiles - [0.1, 0.25, 0.5, 0.75, 0.9]).max() < 0.03


@pytest.mark.parametrize("use", USES)
def test_false_alarms_are_as_rare_as_stated(use: str) -> None:
    """300 keys of unchanging use, each until its first alarm: the mean is at least the stated number of windows.

    What is cut off at 20 times the statement makes the mean smaller, never larger. Past KEPT windows the ranking begins
    anew, so that is in it, too.
    """
    chance = np.random.default_rng(7)
    assert 20 * LIMIT > 3 * KEPT
    lengths = [windows_until_alarm(KeyWatch(LIMIT, seeded(run)), USES[use], chance, 20 * LIMIT) for run in range(RUNS)]
    error = np.std(lengths) / np.sqrt(RUNS)
    assert np.mean(lengths) + 2 * error >= LIMIT
    early = np.mean([length <= LIMIT // 10 for length in lengths])
    assert early <= 0.1 + 3 * np.sqrt(0.09 / RUNS), "P(alarm within n windows) is at most n in the stated number"


def test_a_surge_is_told_within_a_few_windows() -> None:
    """Ten times the tokens after 300 usual windows, at one false alarm in 10,000 windows: told in every one of 100."""
    chance = np.random.default_rng(11)
    delays = []
    for run in range(100):
        watch = KeyWatch(10_000, seeded(run))
        for _ in range(300):
            watch.window(USES["long tail"](chance))
        delays.append(windows_until_alarm(watch, lambda source: 10 * USES["long tail"](source), chance, 200))
    assert max(delays) < 200
    assert np.median(delays) <= 12


def test_windows_without_use_do_not_count_and_keys_are_apart() -> None:
    watch = TokenWatch(AnomalySpec(window_s=60, windows_per_false_alarm=100), seeded(1))
    alarms = [watch.used("calm", 100 + number % 7, number * 60.0) for number in range(300)]
    assert not any(alarms)
    assert not any(watch.used("calm", 1, 300 * 60.0) for _ in range(1000)), "a window has one verdict, when it ends"
    surge = [watch.used("calm", 5000, (1000 + number) * 60.0) for number in range(20)]
    assert any(surge)
    assert not any(watch.used("other", 5000, (2000 + number) * 60.0) for number in range(20))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = open_records(tmp_path)
    yield opened
    opened.close()


async def test_an_alarm_is_an_event_of_its_trace_and_a_metric_and_blocks_nothing(records: Records) -> None:
    """Every request ends a window here, and uses more than the key has before."""
    spec = SPEC.model_copy(update={"anomaly": AnomalySpec(window_s=1e-6, windows_per_false_alarm=100)})
    app = make_app(records, spec=spec)
    watch = app.state.answerer.watch
    for number in range(40):
        watch.used(_digest(records), 1.0, 1.0 + number)
    async with in_process(app) as client:
        replies = [await client.post("/v1/answers", json=QUESTION, headers=USER) for _ in range(12)]
        metrics = (await client.get("/metrics")).text
    assert {reply.status_code for reply in replies} == {200}
    flagged = [row for row in records.traces() if any(event["guard"] == "token_use" for event in row.guards)]
    assert flagged
    assert 'sluice_guard_events_total{action="flag",guard="token_use",stage="input"}' in metrics
    assert not any(row.refused or row.unsafe for row in flagged)


def _digest(records: Records) -> str:
    return next(digest for digest, key in records.keys().items() if key.name == "user")
