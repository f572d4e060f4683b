"""Every kind measured on about 2,000 small vectors, each in a process of its own."""

import numpy as np
import pytest

from indexes.build import IndexSpec
from indexes.types import Vectors
from indexes.vectors.compare import CompareRow, compare
from indexes.vectors.spec import EXACT, KINDS, VectorSpec
from infra.errors import InputError, SetupError
from infra.settings import settings

ROWS = 2_100
"""More than the 2,000 that every kind scans exactly."""


def unit_vectors(count: int, dimension: int = 32, seed: int = 0) -> Vectors:
    """Around 40 centres that do not depend on the seed."""
    centres = np.random.default_rng(99).standard_normal((40, dimension))
    random = np.random.default_rng(seed)
    drawn = centres[random.integers(0, 40, count)] + 0.7 * random.standard_normal((count, dimension))
    unit: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_every_kind_is_measured() -> None:
    seen: list[tuple[int, int]] = []
    queries = unit_vectors(20, seed=1)
    rows = compare(
        unit_vectors(ROWS), queries, VectorSpec(ef_construction=40), progress=lambda *done: seen.append(done)
    )
    assert [row.kind for row in rows] == list(KINDS)
    assert seen[-1] == (len(KINDS), len(KINDS))
    for row in rows:
        measured = row.measured
        if row.kind == "diskann" and not settings().disk_python.is_file():
            assert "run make setup" in row.note
            continue
        assert measured is not None
        assert row.note.startswith("cold: its files dropped from the page cache before each question")
        assert measured.cold_p50_ms > 0
        assert 0 <= measured.cold_stayed <= 1
        assert measured.recall_at_10 >= (1.0 if row.kind in EXACT else 0.9)
        assert 0 < measured.p50_ms <= measured.p99_ms
        assert measured.queries_per_s > 0
        assert measured.anonymous_bytes >= 0
        assert measured.resident_bytes < measured.process_bytes
        assert row.build_s and row.updates_s
        assert row.disk_bytes is not None
        assert row.disk_bytes > ROWS * 32 * 4, "the vectors are part of it"
        assert set(row.flat()) == (set(CompareRow.model_fields) | set(type(measured).model_fields)) - {"measured"}


def test_a_kind_that_cannot_be_built_says_why() -> None:
    (row,) = compare(unit_vectors(300), unit_vectors(3, seed=1), kinds=["ivf-pq"])
    assert row.measured is None
    assert row.build_s is None
    assert "learns from at least 624 vectors" in row.note
    assert row.flat()["recall_at_10"] is None


def test_fewer_rows_than_are_asked_for() -> None:
    (row,) = compare(unit_vectors(4), unit_vectors(3, seed=1), IndexSpec(), kinds=["flat"])
    assert row.measured is not None
    assert row.measured.recall_at_10 == 1.0


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="some of each"):
        compare(unit_vectors(5), unit_vectors(5, 16))
    with pytest.raises(InputError, match="some of each"):
        compare(unit_vectors(5), np.empty((0, 32), np.float32))
    monkeypatch.setattr("indexes.vectors.compare.ROOT", "/")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SetupError, match="flat: the process that measures it ended with 1"):
        compare(unit_vectors(5), unit_vectors(5), kinds=["flat"])
