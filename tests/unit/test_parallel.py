"""Worker processes give the vectors of one process, in the order of the texts, and end with their parent."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder
from indexes.fake import HashingEmbedder
from indexes.parallel import ParallelEmbedder
from infra.errors import TryAgainError
from infra.settings import ROOT

TEXTS = [f"Sentence {'and more ' * (number % 5)}number {number}." for number in range(20)]


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_another_process_gives_the_bits_of_this_one() -> None:
    opened = partial(SentenceTransformerEmbedder, EmbedSpec(), Path())
    alone = opened()
    with closing(ParallelEmbedder(alone, opened, 1)) as parallel:
        vectors, tokens = parallel.passages_with_tokens(TEXTS)
        question = parallel.query(TEXTS[3])
    expected, expected_tokens = alone.passages_with_tokens(TEXTS)
    assert np.array_equal(vectors, expected)
    assert all(np.array_equal(one, other) for one, other in zip(tokens, expected_tokens, strict=True))
    assert np.array_equal(question, expected[3])
    assert parallel.version == alone.version


def test_rows_are_in_the_order_of_the_texts_and_workers_are_ended() -> None:
    alone = HashingEmbedder()
    with closing(ParallelEmbedder(alone, HashingEmbedder, 2, portion=3)) as parallel:
        assert np.array_equal(parallel.passages(TEXTS), alone.passages(TEXTS))
        assert len(workers()) == 2
    assert workers() == []


def test_a_worker_that_dies_is_replaced() -> None:
    alone = HashingEmbedder()
    with closing(ParallelEmbedder(alone, HashingEmbedder, 2)) as parallel:
        parallel.passages(TEXTS)
        os.kill(workers()[0].pid, signal.SIGKILL)
        with pytest.raises(TryAgainError, match=r"embedding\.processes died"):
            for _ in range(1000):
                parallel.passages(TEXTS)
        assert np.array_equal(parallel.passages(TEXTS), alone.passages(TEXTS))


PARENT = """
from functools import partial
from indexes.fake import HashingEmbedder
from indexes.parallel import ParallelEmbedder

if __name__ == "__main__":
    embedder = ParallelEmbedder(HashingEmbedder(), HashingEmbedder, 2)
    embedder.passages([str(number) for number in range(40)])
    print("ready", flush=True)
    input()
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        started = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    assert started
    assert psutil.wait_procs(started, timeout=60)[1] == []
