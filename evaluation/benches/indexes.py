"""Bench: every kind of vector index on the same clustered vectors; `sluice run index --compare` takes your own."""

from collections.abc import Callable

from evaluation.benches import BenchRow
from evaluation.benches.retrieving.vectors import clustered
from indexes.vectors.compare import CompareRow, Measured, compare
from indexes.vectors.spec import Kind
from infra.settings import Settings

ROWS, DIMENSION, QUERIES = 30_000, 384, 200
_MIB, _GIB = 2**20, 2**30
_PEER: Kind = "flat"
_MEASURED: dict[str, Callable[[Measured], float]] = {
    "recall@10, share": lambda one: one.recall_at_10,
    "search P50, ms": lambda one: one.p50_ms,
    "search P99, ms": lambda one: one.p99_ms,
    "searches, queries/s": lambda one: one.queries_per_s,
    "search P50 from a cold disk, ms": lambda one: one.cold_p50_ms,
    "memory that stays, MiB": lambda one: one.anonymous_bytes / _MIB,
    "memory with pages of files, MiB": lambda one: one.resident_bytes / _MIB,
}
_ROW: dict[str, Callable[[CompareRow], float | None]] = {
    "build, s": lambda row: row.build_s,
    "disk, MiB": lambda row: row.disk_bytes and row.disk_bytes / _MIB,
    "1,000 removed and 1,000 added, s": lambda row: row.updates_s,
    "memory at 10 M by formula, GiB": lambda row: row.memory_10m_bytes / _GIB,
    "memory at 1 B by formula, GiB": lambda row: row.memory_1b_bytes / _GIB,
}


def run(settings: Settings) -> list[BenchRow]:
    """Rows of every kind that could be measured, each beside the exact scan (`flat`) in the same run."""
    centres = ROWS // 100
    compared = compare(clustered(ROWS, DIMENSION, centres, seed=0), clustered(QUERIES, DIMENSION, centres, seed=1))
    values = {row.kind: _values(row) for row in compared if row.measured}
    return [
        _row(f"{kind}: {name}", value, None if kind == _PEER else values[_PEER][name])
        for kind, own in values.items()
        for name, value in own.items()
    ]


def _values(row: CompareRow) -> dict[str, float]:
    assert row.measured is not None, "asked of measured kinds only"
    figures = {name: read(row.measured) for name, read in _MEASURED.items()}
    return figures | {name: value for name, read in _ROW.items() if (value := read(row)) is not None}


def _row(name: str, value: float, peer: float | None) -> BenchRow:
    told, _, unit = name.rpartition(", ")
    if peer is None:
        return BenchRow(name=told, value=value, unit=unit)
    return BenchRow(
        name=told, value=value, unit=unit, peer=_PEER, peer_value=peer, ratio=value / peer if peer else None
    )
