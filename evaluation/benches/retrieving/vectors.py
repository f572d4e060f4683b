"""Rows of the retrieval bench on vector indexes: what the port costs beside bare FAISS, and DiskANN's memory."""

import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.benches import BenchRow
from evaluation.intervals import ratio_interval
from indexes.types import Vectors
from indexes.vectors.compare import DEPTH, Measured, in_a_fresh_process, write_questions
from indexes.vectors.open import new_index, open_index
from indexes.vectors.spec import Kind, VectorSpec

ROUNDS = 12
"""Rounds in which port and library take turns; the interval is over them."""
_QUERIES = 200
_FLAT_QUERIES = 20
"""A scan of 100,000 rows takes milliseconds: a round asks fewer."""
_SPREAD = 0.7
_ROWS_A_CENTRE = 100
_SPEC = VectorSpec()

Search = Callable[[Vectors], object]


def clustered(rows: int, dimension: int, centres: int, seed: int) -> Vectors:
    """Unit vectors around centres that do not depend on the seed, shape (rows, dimension)."""
    middle = np.random.default_rng(99).standard_normal((centres, dimension))
    random = np.random.default_rng(seed)
    drawn = middle[random.integers(0, centres, rows)] + _SPREAD * random.standard_normal((rows, dimension))
    unit: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def vector_rows(rows: int = 100_000, dimension: int = 384, spec: VectorSpec = _SPEC) -> list[BenchRow]:
    """Searches one after the other through the port beside bare FAISS on the same index, and DiskANN beside HNSW.

    `search_ratio`: queries a second of one core, HNSW and flat; the recall is equal because the index is the same.
    Interval: ratio of the means over rounds that take turns (Fieller). `disk_memory_ratio`: memory that cannot be taken
    back (RssAnon), DiskANN's whole process and what the port's process gained, beside what HNSW gains; the row after it
    also counts pages of files. Raises SetupError without DiskANN's environment.
    """
    vectors = clustered(rows, dimension, max(rows // _ROWS_A_CENTRE, 1), seed=0)
    queries = clustered(_QUERIES, dimension, max(rows // _ROWS_A_CENTRE, 1), seed=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_questions(folder, vectors, queries)
        kinds: tuple[Kind, ...] = ("hnsw", "flat", "diskann")
        specs = {kind: spec.model_copy(update={"kind": kind}) for kind in kinds}
        for kind, asked in specs.items():
            index = new_index(asked)
            index.build(vectors)
            index.save(folder / kind)
        memory, disk = (in_a_fresh_process(specs[kind], folder / kind) for kind in ("hnsw", "diskann"))
        return [
            _search_ratio(specs["hnsw"], folder / "hnsw", queries),
            _search_ratio(specs["flat"], folder / "flat", queries[:_FLAT_QUERIES]),
            *_disk_rows(disk, memory, f"{rows:,} x {dimension}"),
        ]


def _search_ratio(spec: VectorSpec, place: Path, queries: Vectors) -> BenchRow:
    """Both are read anew in each round and take turns in being first: where arrays come to lie is worth a tenth."""
    seconds = np.empty((ROUNDS, 2))
    for number in range(ROUNDS):
        turn = (_port, _bare) if number % 2 else (_bare, _port)
        searches = {opener: opener(spec, place) for opener in turn}
        for search in searches.values():
            search(queries[0])
        for opener in turn:
            seconds[number, int(opener is _bare)] = _seconds(searches[opener], queries)
    own, other = (len(queries) / seconds).T
    ratio = ratio_interval(own, other, np.arange(ROUNDS))
    return BenchRow(
        name="search_ratio" if spec.kind == "hnsw" else f"search_ratio, {spec.kind}",
        value=float(own.mean()),
        unit="queries a CPU second",
        peer="bare faiss",
        peer_value=float(other.mean()),
        ratio=ratio.mean,
        low=ratio.low,
        high=ratio.high,
    )


def _port(spec: VectorSpec, place: Path) -> Search:
    index = open_index(place, spec)
    return lambda query: index.search(query, DEPTH)


def _bare(spec: VectorSpec, place: Path) -> Search:
    """FAISS as its documentation starts, one thread, on the index that the port has saved."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(place / f"{spec.kind}.faiss"))
    if spec.kind == "hnsw":
        index.hnsw.efSearch = spec.ef_search
    return lambda query: index.search(query[None], DEPTH)


def _seconds(search: Search, queries: Vectors) -> float:
    """CPU time: on a busy machine the clock tells how much of it the others left."""
    begun = time.process_time()
    for query in queries:
        search(query)
    return time.process_time() - begun


def _disk_rows(disk: Measured, memory: Measured, size: str) -> list[BenchRow]:
    def row(name: str, unit: str, field: str, scale: float = 1) -> BenchRow:
        own, other = (getattr(measured, field) / scale for measured in (disk, memory))
        return BenchRow(name=name, value=own, unit=unit, peer="hnsw", peer_value=other, ratio=own / other)

    return [
        row("disk_memory_ratio", f"MiB anonymous, {size}", "anonymous_bytes", 2**20),
        row("disk memory with pages of files", "MiB", "resident_bytes", 2**20),
        row("disk recall@10", "share", "recall_at_10"),
        row("disk searches", "queries/s", "queries_per_s"),
        row("disk search, files dropped from the page cache", "ms", "cold_p50_ms"),
    ]
