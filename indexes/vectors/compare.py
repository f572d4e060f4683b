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
import psutil

from indexes.types import Vectors
from indexes.vectors.choose import IndexNeed, project
from indexes.vectors.cold import forget
from indexes.vectors.kinds import library
from indexes.vectors.open import new_index, open_index
from indexes.vectors.port import Rows, VectorIndex
from indexes.vectors.spec import KINDS, Kind, VectorSpec
from indexes.vectors.stored import StoredVectors
from infra.errors import InputError, PolicyError, SetupError
from infra.settings import ROOT, Spec, settings

DEPTH = 10
COLD_QUERIES = 50
"""Questions that are asked of the disk, at most."""
UPDATES = 1_000
_NEED = IndexNeed()
_STAYED = 0.01
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
    cold_p50_ms: float
    """Median time of a search whose files were dropped from the page cache just before."""
    cold_stayed: float
    """Largest share of the files' pages that could not be dropped."""
    process_bytes: int
    """VmRSS of the process after the searches, DiskANN's own process with it."""
    resident_bytes: int
    """VmRSS gained by loading and searching, DiskANN's whole process with it."""
    anonymous_bytes: int
    """RssAnon gained: memory that cannot be taken back, as pages of mapped files can."""


class CompareRow(Spec):
    """One kind of index; `note` says why one was not measured, or how the disk was."""

    kind: Kind
    rows: int
    dimension: int
    build_s: float | None = None
    disk_bytes: int | None = None
    """Index file, vectors and all."""
    measured: Measured | None = None
    updates_s: float | None = None
    """Seconds to remove 1,000 rows (all, where there are fewer) and to add as many to the loaded index."""
    memory_10m_bytes: int
    """Memory by formula for 10 million rows."""
    price_10m: float
    """Its price and that of the disk, a month."""
    memory_1b_bytes: int
    """Memory by formula for a billion rows."""
    price_1b: float
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
    need: IndexNeed = _NEED,
) -> list[CompareRow]:
    """A row a kind over `vectors` (n, dimension), asked `queries` (q, dimension), both of unit length.

    The parameters are those of `spec`; its kind does not count. Up to 2,000 rows every kind scans them all. A kind that
    cannot index these vectors, or whose environment is not there, says so in its note. `need` gives the prices.

    Raises: InputError without queries or for shapes that do not fit; SetupError when a measuring process fails.
    """
    if queries.ndim != 2 or vectors.ndim != 2 or not len(queries) or vectors.shape[1] != queries.shape[1]:
        raise InputError(
            f"vectors {vectors.shape} and queries {queries.shape} must be (n, dimension), and some of each"
        )
    base = spec or VectorSpec()
    values = {name: getattr(base, name) for name in VectorSpec.model_fields}  # not what a larger spec adds
    values["device"] = "cpu"  # where every kind can be asked
    rows = []
    with tempfile.TemporaryDirectory() as name:
        write_questions(Path(name), vectors, queries)
        for number, kind in enumerate(kinds, 1):
            asked = VectorSpec(**{**values, "kind": kind})
            rows.append(_row(asked, vectors, Path(name), need))
            if progress:
                progress(number, len(kinds))
    return rows


def write_questions(folder: Path, vectors: Vectors, queries: Vectors) -> None:
    """Write what `in_a_fresh_process` asks the indexes whose folders lie in `folder`."""
    np.save(folder / "queries.npy", queries)
    np.save(folder / "floors.npy", _floors(vectors, queries))


def _floors(vectors: Vectors, queries: Vectors) -> Vectors:
    """Inner product of the exact tenth best row of each query: whatever reaches it belongs to the best ten."""
    stored = StoredVectors(vectors)
    return np.array([stored.best(query, DEPTH)[1][-1] for query in queries], np.float32)


def _row(spec: VectorSpec, vectors: Vectors, folder: Path, need: IndexNeed) -> CompareRow:
    rows, dimension = vectors.shape
    ten, billion = project(spec, dimension, need.memory_price, need.disk_price)
    row = CompareRow(
        kind=spec.kind,
        rows=rows,
        dimension=dimension,
        memory_10m_bytes=ten.memory_bytes,
        price_10m=ten.price_per_month,
        memory_1b_bytes=billion.memory_bytes,
        price_1b=billion.price_per_month,
    )
    place = folder / spec.kind
    index = new_index(spec)
    begun = time.perf_counter()
    try:
        index.build(vectors)
    except (PolicyError, SetupError) as error:
        return row.model_copy(update={"note": str(error)})
    build_s = time.perf_counter() - begun
    index.save(place)
    measured = in_a_fresh_process(spec, place)
    return row.model_copy(
        update={
            "build_s": build_s,
            "disk_bytes": sum(file.stat().st_size for file in place.iterdir()),
            "measured": measured,
            "updates_s": _updates_s(open_index(place, spec), vectors),
            "note": _how_cold(measured.cold_stayed),
        }
    )


def _how_cold(stayed: float) -> str:
    """No limit is set on memory, which takes privileges: before each question nothing of the files is in it."""
    rest = f", {stayed:.0%} of which stayed" if stayed > _STAYED else ""
    return f"cold: its files dropped from the page cache before each question{rest}"


def _updates_s(index: VectorIndex, vectors: Vectors) -> float:
    """Rows are removed, and as many new ones added that lie between two neighbours in the order given."""
    number = min(UPDATES, len(vectors))
    between = vectors[:number] + np.roll(vectors, -1, axis=0)[:number]
    fresh = (between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    begun = time.perf_counter()
    index.remove(np.arange(number, dtype=np.int64))
    index.add(fresh)
    return time.perf_counter() - begun


def in_a_fresh_process(spec: VectorSpec, place: Path) -> Measured:
    """The saved index in `place`, measured by a process that does nothing else. Raises SetupError when it fails."""
    command = [sys.executable, "-m", "indexes.vectors.compare", str(place), spec.model_dump_json()]
    environment = {**os.environ, **settings().quiet_environment()}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(
            f"{spec.kind}: the process that measures it ended with {done.returncode}: {done.stderr[-500:]}"
        )
    return Measured.model_validate_json(done.stdout)


def resident() -> tuple[int, int]:
    """(VmRSS, RssAnon) of this process and of those that it started, bytes."""
    whole = anonymous = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        lines = (line.split() for line in Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines())
        told = {words[0]: int(words[1]) * 1024 for words in lines if words and words[0] in ("VmRSS:", "RssAnon:")}
        whole, anonymous = whole + told["VmRSS:"], anonymous + told["RssAnon:"]
    return whole, anonymous


def _measure(place: Path, spec: VectorSpec) -> Measured:
    """Load the index in `place` and ask it every query, once to warm up and once on the clock."""
    queries: Vectors = np.load(place.parent / "queries.npy")
    floors: Vectors = np.load(place.parent / "floors.npy")
    library().omp_set_num_threads(1)
    before = resident()
    index = open_index(place, spec)
    for query in queries:
        index.search(query, DEPTH)
    times: list[float] = []
    found: list[tuple[Rows, Vectors]] = []
    for query in queries:
        begun = time.perf_counter()
        found.append(index.search(query, DEPTH))
        times.append(time.perf_counter() - begun)
    after = resident()
    stayed, cold = _cold(index, queries[:COLD_QUERIES], place)
    wanted = min(DEPTH, index.count)
    right = [(scores >= floor - _TIE).sum() / wanted for (_, scores), floor in zip(found, floors, strict=True)]
    return Measured(
        recall_at_10=float(np.mean(right)),
        p50_ms=float(np.percentile(times, 50)) * 1000,
        p99_ms=float(np.percentile(times, 99)) * 1000,
        queries_per_s=len(times) / sum(times),
        cold_p50_ms=float(np.percentile(cold, 50)) * 1000,
        cold_stayed=stayed,
        process_bytes=after[0],
        resident_bytes=max(after[0] - before[0], 0),
        anonymous_bytes=max(after[1] - before[1], 0),
    )


def _cold(index: VectorIndex, queries: Vectors, place: Path) -> tuple[float, list[float]]:
    """The largest share of pages that stayed, and the seconds of each search."""
    stayed, times = 0.0, []
    for query in queries:
        stayed = max(stayed, forget(place))
        begun = time.perf_counter()
        index.search(query, DEPTH)
        times.append(time.perf_counter() - begun)
    return stayed, times


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]), VectorSpec.model_validate_json(sys.argv[2])).model_dump()))
