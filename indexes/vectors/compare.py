"""Measures every kind of index on the same vectors and questions; run as a module it is the process that asks one."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from indexes.types import Vectors
from indexes.vectors.faiss import FaissIndex
from indexes.vectors.kinds import library
from indexes.vectors.port import Rows
from indexes.vectors.spec import KINDS, Kind, VectorSpec
from indexes.vectors.stored import StoredVectors
from infra.errors import InputError, PolicyError, SetupError
from infra.settings import ROOT, Spec, settings

DEPTH = 10
UPDATES = 1_000
_TIE = 1e-6
"""A row found in place of one that is no better by more than this counts as right."""


class Measured(Spec):
    """What a process of its own saw of one index."""

    recall_at_10: float
    """Mean share of the exact best ten (fewer, where there are fewer rows) that was found."""
    p50_ms: float
    """Median time of a search."""
    p99_ms: float
    """99th percentile."""
    queries_per_s: float
    """Searches one after the other."""
    process_bytes: int
    """VmRSS of the process after the searches."""
    resident_bytes: int
    """VmRSS gained by loading and searching."""
    anonymous_bytes: int
    """RssAnon gained: memory that cannot be taken back, as pages of mapped files can."""


class CompareRow(Spec):
    """One kind of index; `note` says why one was not measured."""

    kind: Kind
    rows: int
    dimension: int
    build_s: float | None = None
    disk_bytes: int | None = None
    """Index file, vectors and all."""
    measured: Measured | None = None
    updates_s: float | None = None
    """Seconds to remove 1,000 rows (all, where there are fewer) and to add as many to the loaded index."""
    note: str = ""

    def flat(self) -> dict[str, Any]:
        """The row as one level of plain values, for tables."""
        outer = self.model_dump(exclude={"measured", "note"})
        inner = self.measured.model_dump() if self.measured else dict.fromkeys(Measured.model_fields)
        return {**outer, **inner, "note": self.note}


def compare(
    vectors: Vectors,
    queries: Vectors,
    spec: VectorSpec | None = None,
    kinds: Sequence[Kind] = KINDS,
    progress: Callable[[int, int], None] | None = None,
) -> list[CompareRow]:
    """A row a kind over `vectors` (n, dimension), asked `queries` (q, dimension), both of unit length.

    The parameters are those of `spec`; its kind does not count. Up to 2,000 rows every kind scans them all. A kind that
    cannot index these vectors says so in its note. Raises: InputError without queries or for shapes that do not fit;
    SetupError when a measuring process fails.
    """
    if queries.ndim != 2 or vectors.ndim != 2 or not len(queries) or vectors.shape[1] != queries.shape[1]:
        raise InputError(
            f"vectors {vectors.shape} and queries {queries.shape} must be (n, dimension), and some of each"
        )
    base = spec or VectorSpec()
    values = {name: getattr(base, name) for name in VectorSpec.model_fields}  # not what a larger spec adds
    rows = []
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "queries.npy", queries)
        np.save(Path(name) / "floors.npy", _floors(vectors, queries))
        for number, kind in enumerate(kinds, 1):
            asked = VectorSpec(**{**values, "kind": kind})
            rows.append(_row(asked, vectors, Path(name)))
            if progress:
                progress(number, len(kinds))
    return rows


def _floors(vectors: Vectors, queries: Vectors) -> Vectors:
    """Inner product of the exact tenth best row of each query: whatever reaches it belongs to the best ten."""
    stored = StoredVectors(vectors)
    return np.array([stored.best(query, DEPTH)[1][-1] for query in queries], np.float32)


def _row(spec: VectorSpec, vectors: Vectors, folder: Path) -> CompareRow:
    rows, dimension = vectors.shape
    place = folder / spec.kind
    index = FaissIndex(spec)
    begun = time.perf_counter()
    try:
        index.build(vectors)
    except PolicyError as error:
        return CompareRow(kind=spec.kind, rows=rows, dimension=dimension, note=str(error))
    build_s = time.perf_counter() - begun
    index.save(place)
    return CompareRow(
        kind=spec.kind,
        rows=rows,
        dimension=dimension,
        build_s=build_s,
        disk_bytes=sum(file.stat().st_size for file in place.iterdir()),
        measured=_in_a_fresh_process(spec, place),
        updates_s=_updates_s(FaissIndex.load(place, spec), vectors),
    )


def _updates_s(index: FaissIndex, vectors: Vectors) -> float:
    """Rows are removed, and as many new ones added that lie between two neighbours in the order given."""
    number = min(UPDATES, len(vectors))
    between = vectors[:number] + np.roll(vectors, -1, axis=0)[:number]
    fresh = (between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    begun = time.perf_counter()
    index.remove(np.arange(number, dtype=np.int64))
    index.add(fresh)
    return time.perf_counter() - begun


def _in_a_fresh_process(spec: VectorSpec, place: Path) -> Measured:
    command = [sys.executable, "-m", "indexes.vectors.compare", str(place), spec.model_dump_json()]
    environment = {**os.environ, **settings().quiet_environment()}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(
            f"{spec.kind}: the process that measures it ended with {done.returncode}: {done.stderr[-500:]}"
        )
    return Measured.model_validate_json(done.stdout)


def _resident() -> tuple[int, int]:
    """(VmRSS, RssAnon) of this process, bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    told = {words[0]: int(words[1]) * 1024 for words in lines if words and words[0] in ("VmRSS:", "RssAnon:")}
    return told["VmRSS:"], told["RssAnon:"]


def _measure(place: Path, spec: VectorSpec) -> Measured:
    """Load the index in `place` and ask it every query, once to warm up and once on the clock."""
    queries: Vectors = np.load(place.parent / "queries.npy")
    floors: Vectors = np.load(place.parent / "floors.npy")
    library().omp_set_num_threads(1)
    before = _resident()
    index = FaissIndex.load(place, spec)
    for query in queries:
        index.search(query, DEPTH)
    times: list[float] = []
    found: list[tuple[Rows, Vectors]] = []
    for query in queries:
        begun = time.perf_counter()
        found.append(index.search(query, DEPTH))
        times.append(time.perf_counter() - begun)
    after = _resident()
    wanted = min(DEPTH, index.count)
    right = [(scores >= floor - _TIE).sum() / wanted for (_, scores), floor in zip(found, floors, strict=True)]
    return Measured(
        recall_at_10=float(np.mean(right)),
        p50_ms=float(np.percentile(times, 50)) * 1000,
        p99_ms=float(np.percentile(times, 99)) * 1000,
        queries_per_s=len(times) / sum(times),
        process_bytes=after[0],
        resident_bytes=max(after[0] - before[0], 0),
        anonymous_bytes=max(after[1] - before[1], 0),
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]), VectorSpec.model_validate_json(sys.argv[2])).model_dump()))
