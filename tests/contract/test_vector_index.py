"""What every adapter of the vector port must keep."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexes.types import Vectors
from indexes.vectors.faiss import FlatIndex, HnswIndex
from indexes.vectors.port import VectorIndex
from infra.errors import InputError, IntegrityError

Make = Callable[[], VectorIndex]


@pytest.fixture(params=[FlatIndex, HnswIndex])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def unit_vectors(count: int, dimension: int = 24, seed: int = 0) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def test_the_best_come_first_with_their_inner_product(make: Make) -> None:
    vectors = unit_vectors(300)
    index = make()
    index.build(vectors)
    query = vectors[7]
    rows, scores = index.search(query, 5)
    assert rows.tolist() == np.argsort(-(vectors @ query))[:5].tolist()
    assert scores == pytest.approx(np.sort(vectors @ query)[::-1][:5], abs=1e-5)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("count", [60, 3000])
@pytest.mark.parametrize("share", [0.002, 0.05, 0.9])
def test_only_allowed_rows_are_found_and_the_best_of_them(make: Make, count: int, share: float) -> None:
    vectors = unit_vectors(count)
    index = make()
    index.build(vectors)
    allowed = np.random.default_rng(1).random(count) < share
    allowed[count // 2] = True
    for query in unit_vectors(20, seed=2):
        rows, scores = index.search(query, 10, allowed)
        assert allowed[rows].all()
        assert len(set(rows.tolist())) == len(rows) == min(10, int(allowed.sum()))
        best = np.flatnonzero(allowed)[np.argsort(-(vectors @ query)[allowed])][:10]
        assert len(set(best.tolist()) & set(rows.tolist())) >= 0.8 * len(best)
        assert (np.diff(scores) <= 0).all()


def test_a_forbidden_exact_match_stays_hidden(make: Make) -> None:
    vectors = unit_vectors(3000)
    index = make()
    index.build(vectors)
    allowed = np.ones(3000, np.bool_)
    allowed[11] = False
    assert index.search(vectors[11], 1)[0].tolist() == [11]
    assert 11 not in index.search(vectors[11], 50, allowed)[0]


def test_no_allowed_row_finds_nothing_and_k_may_exceed_the_rows(make: Make) -> None:
    vectors = unit_vectors(5)
    index = make()
    index.build(vectors)
    assert index.search(vectors[0], 3, np.zeros(5, np.bool_))[0].size == 0
    assert sorted(index.search(vectors[0], 50)[0].tolist()) == [0, 1, 2, 3, 4]


def test_saved_bytes_repeat_and_load_back(make: Make, tmp_path: Path) -> None:
    vectors = unit_vectors(2500)
    for name in ("a", "b"):
        index = make()
        index.build(vectors)
        index.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = index.load(tmp_path / "a")
    for query in unit_vectors(5, seed=3):
        assert loaded.search(query, 10)[0].tolist() == index.search(query, 10)[0].tolist()


def test_bad_vectors_and_damaged_files_are_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shape"):
        make().build(np.empty((0, 4), np.float32))
    (tmp_path / "bad").write_bytes(b"no index at all")
    for name in ("bad", "missing"):
        with pytest.raises(IntegrityError, match="build the index again"):
            make().load(tmp_path / name)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    flat, graph = FlatIndex(), HnswIndex()
    for index, name in ((flat, "flat"), (graph, "graph")):
        index.build(unit_vectors(10))
        index.save(tmp_path / name)
    with pytest.raises(IntegrityError, match="IndexFlat"):
        HnswIndex.load(tmp_path / "flat")
    with pytest.raises(IntegrityError, match="IndexHNSW"):
        FlatIndex.load(tmp_path / "graph")
