"""Rows of training: tokens a second beside a bare trl script of the same configuration, and peak memory by method."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evaluation.benches import BenchRow
from infra.errors import SetupError
from infra.settings import ROOT, Settings

CHILD = "evaluation.benches.modelling.training_child"
ROUNDS = 5
"""Pairs of runs; who begins alternates, so that a machine that slows down or speeds up favours nobody."""
JOB: dict[str, Any] = {"method": "lora", "rows": 160, "batch": 16, "length": 1024, "rate": 1e-3}
METHODS = ("qlora", "lora", "full")
TIMEOUT_S = 600


def training_rows(settings: Settings) -> list[BenchRow]:
    """`training_ratio` with the lowest and highest of its rounds, then peak memory of each method beside that of full.

    Raises: SetupError where a training failed.
    """
    return [_speed(settings), *_memory(settings)]


def _speed(settings: Settings) -> BenchRow:
    """Tokens a second of the training loop alone; the ratio is the median of the rounds' ratios."""
    ours, bare = list[float](), list[float]()
    for number in range(ROUNDS):
        for side in ("ours", "bare") if number % 2 else ("bare", "ours"):
            told = _run(settings, JOB | {"side": side})
            (ours if side == "ours" else bare).append(told["tokens"] / told["seconds"])
    ratios = sorted(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    return BenchRow(
        name="training_ratio",
        value=statistics.median(ours),
        unit="tokens/s",
        peer="bare trl script, LoRA, one thread",
        peer_value=statistics.median(bare),
        ratio=statistics.median(ratios),
        low=ratios[0],
        high=ratios[-1],
    )


def _memory(settings: Settings) -> list[BenchRow]:
    """Peak resident memory above what the libraries take themselves, each method in a process of its own."""
    peaks = {}
    for method in METHODS:
        told = _run(settings, JOB | {"side": "ours", "method": method, "rows": 32})
        peaks[method] = (told["peak"] - told["before"]) / 2**20
    return [
        BenchRow(
            name=f"training memory: {method}",
            value=peak,
            unit="MiB",
            peer="full",
            peer_value=peaks["full"],
            ratio=peak / peaks["full"],
        )
        for method, peak in peaks.items()
    ]


def _run(settings: Settings, job: dict[str, Any]) -> dict[str, float]:
    """One training in a child; what it printed."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-m", CHILD, json.dumps(job | {"folder": str(Path(place) / "work")})],
            cwd=ROOT,
            env=os.environ | settings.quiet_environment() | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    if done.returncode:
        raise SetupError(f"bench: a training failed: {done.stderr[-1500:]}")
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told
