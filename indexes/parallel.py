"""Embedder over several processes of one machine, with the bits of one."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

import numpy as np

from indexes.tokens import TokenEmbedder
from indexes.types import Vectors
from infra.errors import TryAgainError

_embedder: TokenEmbedder
"""The encoder of a worker process."""

Result = TypeVar("Result")


class ParallelEmbedder:
    """Embedder whose passages are embedded by worker processes; questions stay in this one.

    Every portion is embedded as one process would embed it alone: at batch size 1 with the same bits. The workers
    start with the first passages, each with an encoder of its own in memory, and end with this process.
    """

    def __init__(
        self, embedder: TokenEmbedder, opened: Callable[[], TokenEmbedder], processes: int, portion: int = 8
    ) -> None:
        """`opened` is called in each worker, so it must be picklable, and gives an encoder like `embedder`.

        A process takes `portion` texts at a time: few, so that none waits long for the last one at the end.
        """
        self.version, self.dimension = embedder.version, embedder.dimension
        self.query, self.query_tokens = embedder.query, embedder.query_tokens
        self._opened = opened
        self._processes = processes
        self._portion = portion
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def passages(self, texts: Sequence[str]) -> Vectors:
        """See Embedder. Raises TryAgainError when a worker dies."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for rows, made in self._shared(_passages, texts):
            vectors[rows] = made
        return vectors

    def passages_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[Vectors]]:
        """See TokenEmbedder. Raises TryAgainError when a worker dies."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        tokens: dict[int, Vectors] = {}
        for rows, (made, tables) in self._shared(_passages_with_tokens, texts):
            vectors[rows] = made
            tokens |= dict(zip(rows, tables, strict=True))
        return vectors, [tokens[row] for row in range(len(texts))]

    def close(self) -> None:
        """End the workers; the next passages start new ones."""
        with self._lock:
            if self._pool:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None

    def _shared(self, work: Callable[[list[str]], Result], texts: Sequence[str]) -> list[tuple[list[int], Result]]:
        """What the workers make of each portion of the texts; longest first, so that the last to end are short."""
        order = sorted(range(len(texts)), key=lambda row: (-len(texts[row]), texts[row]))
        portions = [order[first : first + self._portion] for first in range(0, len(order), self._portion)]
        try:
            made = self._workers().map(work, [[texts[row] for row in rows] for rows in portions])
            return list(zip(portions, made, strict=True))
        except BrokenProcessPool as error:
            self.close()
            raise TryAgainError("a process of embedding.processes died (out of memory?); fewer need less") from error

    def _workers(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                spawning = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads
                self._pool = ProcessPoolExecutor(self._processes, spawning, _begin, (self._opened,))
            return self._pool


def _begin(opened: Callable[[], TokenEmbedder]) -> None:
    """Make a worker ready, and let it end with the process that started it, also when that one is killed."""
    global _embedder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _embedder = opened()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in workers only"
    wait([parent.sentinel])
    os._exit(1)


def _passages(texts: list[str]) -> Vectors:
    return _embedder.passages(texts)


def _passages_with_tokens(texts: list[str]) -> tuple[Vectors, list[Vectors]]:
    return _embedder.passages_with_tokens(texts)
