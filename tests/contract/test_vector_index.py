"""What every kind of vector index must keep: recall, masks, ties, updates, bytes, and refusal of what does not fit."""

from pathlib import Path

import numpy as np
import pytest

from indexes.types import Vectors
from indexes.vectors.diskann_files import FILES
from indexes.vectors.open import new_index, open_index
from indexes.vectors.port import Mask, VectorIndex
from indexes.vectors.spec import EXACT, KINDS, QUANTIZED, TRAINED, Kind, VectorSpec
from infra.errors import InputError, IntegrityError, PolicyError, SetupError
from infra.settings import settings
from tests.environment import needs_disk

ROWS, DIMENSION = 5_000, 384
LEAST_RECALL: dict[Kind, float] = {
    "flat": 1.0,
    "flat-mapped": 1.0,
    "hnsw": 0.99,
    "hnsw-mapped": 0.99,
    "hnsw-sq8": 0.99,
    "ivf-pq": 0.97,
    "ivf-rabitq": 0.98,
    "diskann": 0.99,
}
UNTRAINED = [kind for kind in KINDS if kind not in TRAINED]
EVERY = [pytest.param(kind, marks=needs_disk) if kind == "diskann" else kind for kind in KINDS]
WITH_CODES = [pytest.param(kind, marks=needs_disk) if kind == "diskann" else kind for kind in sorted(QUANTIZED)]


def clustered(count: int, dimension: int = DIMENSION, seed: int = 0) -> Vectors:
    """Unit vectors around 100 centres that do not depend on the seed."""
    centres = np.random.default_rng(99).standard_normal((100, dimension))
    random = np.random.default_rng(seed)
    drawn = centres[random.integers(0, 100, count)] + 0.7 * random.standard_normal((count, dimension))
    unit: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


VECTORS = clustered(ROWS)
QUERIES = clustered(40, seed=1)


def built(kind: Kind, vectors: Vectors, **values: object) -> VectorIndex:
    quick = {"ef_construction": 80, "disk_degree": 24, "disk_complexity": 40}
    index = new_index(VectorSpec.model_validate({"kind": kind, **quick, **values}))
    index.build(vectors)
    return index


def recall(index: VectorIndex, vectors: Vectors, allowed: Mask | None = None, k: int = 10) -> float:
    """Mean share of the exact best k among what was found."""
    among = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    shares: list[float] = []
    for query in QUERIES:
        best = among[np.argsort(-(vectors[among] @ query))][:k]
        rows, scores = index.search(query, k, allowed)
        assert len(set(rows.tolist())) == len(rows) == len(best)
        assert scores == pytest.approx(vectors[rows] @ query, abs=1e-5), "scores are exact inner products"
        assert (np.diff(scores) <= 0).all()
        assert allowed is None or allowed[rows].all()
        shares.append(len(set(best.tolist()) & set(rows.tolist())) / len(best) if len(best) else 1.0)
    return sum(shares) / len(shares)


def files_of(kind: Kind) -> tuple[str, ...]:
    """What a kind writes besides the vectors and the updates."""
    return FILES if kind == "diskann" else (f"{kind}.faiss",)


@pytest.fixture(scope="module", params=EVERY)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[VectorIndex, Path]:
    """An index over VECTORS and the folder that it was saved in; tests must not change either."""
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    index = built(kind, VECTORS)
    index.save(folder)
    return index, folder


def test_recall_at_10_of_a_built_and_of_a_loaded_index(saved: tuple[VectorIndex, Path]) -> None:
    index, folder = saved
    loaded = open_index(folder, index.spec)
    least = LEAST_RECALL[index.spec.kind]
    assert recall(index, VECTORS) >= least
    assert recall(loaded, VECTORS) >= least
    for query in QUERIES[:5]:
        assert loaded.search(query, 10)[0].tolist() == index.search(query, 10)[0].tolist()
    assert (loaded.count, loaded.dimension, loaded.needs_rebuild) == (ROWS, DIMENSION, False)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.45, 0.9])
def test_only_allowed_rows_are_found_and_the_best_of_them(saved: tuple[VectorIndex, Path], share: float) -> None:
    allowed = np.random.default_rng(1).random(ROWS) < share
    assert recall(saved[0], VECTORS, allowed) >= (LEAST_RECALL[saved[0].spec.kind] - 0.02 if share > 0.4 else 1.0)


def test_a_mask_that_shuts_the_topic_of_the_question(saved: tuple[VectorIndex, Path]) -> None:
    """Labels go by topic: a caller asks about what is closed to them, and half of the other topics are open."""
    centres = np.random.default_rng(99).standard_normal((100, DIMENSION))
    topics = np.argmax(VECTORS @ centres.T, axis=1)
    shares = []
    for number, query in enumerate(QUERIES):
        opened = np.random.default_rng(number).permutation(100)[:50]
        allowed = np.isin(topics, opened[opened != np.argmax(centres @ query)])
        best = np.argsort(-np.where(allowed, VECTORS @ query, -2))[:10]
        rows, _ = saved[0].search(query, 10, allowed)
        assert allowed[rows].all()
        shares.append(len(set(best.tolist()) & set(rows.tolist())) / 10)
    assert np.mean(shares) >= (1.0 if saved[0].spec.kind in EXACT else 0.96)


def test_a_mask_that_leaves_only_what_is_least_like_the_question(saved: tuple[VectorIndex, Path]) -> None:
    """The best ten of those lie within 0.0005 of each other: who approximates may take one a little farther."""
    for query in QUERIES[:10]:
        scores = VECTORS @ query
        allowed = np.ones(ROWS, np.bool_)
        allowed[np.argsort(-scores)[: ROWS - 2_500]] = False
        rows, found = saved[0].search(query, 10, allowed)
        assert allowed[rows].all()
        assert len(rows) == 10
        assert found[0] >= scores[allowed].max() - (1e-6 if saved[0].spec.kind in EXACT else 0.005)


def test_a_forbidden_exact_match_stays_hidden(saved: tuple[VectorIndex, Path]) -> None:
    allowed = np.ones(ROWS, np.bool_)
    allowed[11] = False
    assert saved[0].search(VECTORS[11], 1)[0].tolist() == [11]
    assert 11 not in saved[0].search(VECTORS[11], 50, allowed)[0]


def test_a_question_or_mask_of_another_shape_is_named(saved: tuple[VectorIndex, Path]) -> None:
    with pytest.raises(InputError, match="384 numbers"):
        saved[0].search(QUERIES[0][:100], 5)
    with pytest.raises(InputError, match="5000 rows"):
        saved[0].search(QUERIES[0], 5, np.ones(ROWS - 1, np.bool_))


@pytest.mark.parametrize("kind", EVERY)
def test_equal_vectors_come_in_the_order_of_their_rows(kind: Kind) -> None:
    vectors = clustered(3_000, 32)
    same = [7, 400, 1_234, 2_048, 2_999]
    vectors[same] = np.tile(np.array([1, -1, 1, 1, 0, 0, 0, 0], np.float32) / 4, 4)  # inner products without rounding
    rows, scores = built(kind, vectors).search(vectors[7], 5)
    assert rows.tolist() == same
    assert scores.tolist() == [1.0] * 5


@pytest.mark.parametrize("kind", UNTRAINED)
def test_few_rows_and_no_allowed_row(kind: Kind) -> None:
    index = built(kind, clustered(5, 24))
    query = clustered(1, 24, seed=2)[0]
    assert index.search(query, 3, np.zeros(5, np.bool_))[0].size == 0
    assert sorted(index.search(query, 50)[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", EVERY)
def test_the_same_vectors_and_updates_give_the_same_bytes(kind: Kind, tmp_path: Path) -> None:
    vectors = clustered(2_500, 24)
    for name in ("a", "b"):
        index = built(kind, vectors)
        index.save(tmp_path / name)
        index.add(vectors[:20])
        index.remove(np.array([3, 2_510]))
        index.save(tmp_path / f"{name}-updated")
    own = len(files_of(kind))
    for suffix, files in (("", own + 1), ("-updated", own + 2)):
        left, right = (sorted((tmp_path / f"{name}{suffix}").iterdir()) for name in ("a", "b"))
        assert [file.name for file in left] == [file.name for file in right]
        assert len(left) == files
        assert [file.read_bytes() for file in left] == [file.read_bytes() for file in right]
    assert np.array_equal(np.load(tmp_path / "a" / "vectors.npy"), vectors)
    assert np.array_equal(np.load(tmp_path / "a-updated" / "vectors.npy"), np.concatenate([vectors, vectors[:20]]))


@pytest.mark.parametrize("kind", EVERY)
def test_removed_rows_never_come_back(kind: Kind, tmp_path: Path) -> None:
    vectors = clustered(3_000, 32)
    built(kind, vectors).save(tmp_path)
    index = open_index(tmp_path, VectorSpec(kind=kind))
    gone = np.random.default_rng(3).choice(3_000, 200, replace=False)
    index.remove(gone)
    added = index.add(vectors[gone[:100]])
    assert added.tolist() == list(range(3_000, 3_100))
    index.remove(added[:50])
    index.remove(gone[:5])
    index.save(tmp_path)
    hidden = set(gone.tolist()) | set(added[:50].tolist())
    allowed = np.zeros(3_100, np.bool_)
    allowed[[*gone, *added]] = True
    for opened in (index, open_index(tmp_path, VectorSpec(kind=kind))):
        for row, number in enumerate(gone[:100].tolist()):
            for mask in (None, allowed):
                rows, _ = opened.search(vectors[number], 10, mask)
                assert hidden.isdisjoint(rows.tolist())
                assert row < 50 or rows[0] == 3_000 + row
    fresh = index.rebuild()
    assert (index.count, len(fresh)) == (2_850, 2_850)
    assert hidden.isdisjoint(fresh.tolist())
    index.save(tmp_path)
    assert not (tmp_path / "updates.json").exists()


@pytest.mark.parametrize("kind", EVERY)
def test_recall_after_updates_is_that_of_a_fresh_build(kind: Kind) -> None:
    first, later = clustered(3_200), clustered(800, seed=7)
    index = built(kind, first)
    index.add(later[:400])
    gone = np.random.default_rng(4).choice(3_200, 320, replace=False)
    index.remove(gone)
    index.add(later[400:])
    alive = np.ones(index.count, np.bool_)
    alive[gone] = False
    vectors = np.concatenate([first, later])
    after = recall(index, vectors, alive)
    assert after >= recall(built(kind, vectors[alive]), vectors[alive]) - 0.02


@pytest.mark.parametrize("kind", EVERY)
def test_a_rebuild_is_asked_for_at_the_share_of_the_spec(kind: Kind) -> None:
    vectors = clustered(1_000, 24)
    index = built(kind, vectors, rebuild_share=0.1)
    index.remove(np.arange(99))
    assert not index.needs_rebuild
    index.remove(np.arange(100))
    assert index.needs_rebuild
    index.rebuild()
    assert not index.needs_rebuild
    index.add(vectors[:200])
    assert index.needs_rebuild == (kind in TRAINED), "centroids do not know what was added"


@pytest.mark.parametrize("kind", EVERY)
def test_updates_that_do_not_fit_are_named(kind: Kind) -> None:
    index = built(kind, clustered(1_000, 24))
    with pytest.raises(InputError, match="numbers cannot join"):
        index.add(clustered(3, 25))
    with pytest.raises(InputError, match="row 1000 cannot be removed"):
        index.remove(np.array([0, 1_000]))
    with pytest.raises(InputError, match="row -1 cannot be removed"):
        index.remove(np.array([-1]))
    with pytest.raises(InputError, match="shape"):
        new_index(VectorSpec(kind=kind)).build(np.empty((0, 4), np.float32))
    assert index.search(clustered(1, 24)[0], 1)[0].size == 1


def test_missing_damaged_and_cut_files_are_named(saved: tuple[VectorIndex, Path], tmp_path: Path) -> None:
    index, folder = saved
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for name in files_of(index.spec.kind):
        whole = (folder / name).read_bytes()
        for data in (b"", b"no index at all", whole[:200], whole[: len(whole) // 2], whole[:-3]):
            (tmp_path / name).unlink()
            (tmp_path / name).write_bytes(data)
            with pytest.raises(IntegrityError, match="build the index again"):
                open_index(tmp_path, index.spec)
        (tmp_path / name).unlink()
        with pytest.raises(IntegrityError, match="build the index again"):
            open_index(tmp_path, index.spec)
        (tmp_path / name).symlink_to(folder / name)
    assert open_index(tmp_path, index.spec).count == ROWS


def test_a_file_of_another_kind_is_refused(saved: tuple[VectorIndex, Path], tmp_path: Path) -> None:
    index, folder = saved
    (tmp_path / "vectors.npy").symlink_to(folder / "vectors.npy")
    own = files_of(index.spec.kind)[0]
    for other in KINDS:
        if other == "diskann" and not settings().disk_python.is_file():
            continue
        for name in files_of(other):
            (tmp_path / name).symlink_to(folder / own)
        if other.removesuffix("-mapped") != index.spec.kind.removesuffix("-mapped"):
            with pytest.raises(IntegrityError, match="build the index again"):
                open_index(tmp_path, VectorSpec(kind=other))


@pytest.mark.parametrize("kind", WITH_CODES)
def test_vectors_beside_codes_must_be_theirs(kind: Kind, tmp_path: Path) -> None:
    vectors = clustered(1_000, 24)
    built(kind, vectors).save(tmp_path)
    for damaged in (vectors[:-1], vectors[:, :-1], vectors.astype(np.float64), vectors[0]):
        np.save(tmp_path / "vectors.npy", damaged)
        with pytest.raises(IntegrityError, match=r"vectors\.npy"):
            open_index(tmp_path, VectorSpec(kind=kind))
    (tmp_path / "vectors.npy").unlink()
    with pytest.raises(IntegrityError, match="missing or damaged"):
        open_index(tmp_path, VectorSpec(kind=kind))


@pytest.mark.parametrize("text", ["{", '{"built": 60, "removed": [50]}', '{"built": 50, "removed": [-1]}'])
def test_damaged_updates_are_refused(text: str, tmp_path: Path) -> None:
    built("flat", clustered(50, 24)).save(tmp_path)
    (tmp_path / "updates.json").write_text(text, "utf-8")
    with pytest.raises(IntegrityError, match=r"updates\.json.*build the index again"):
        open_index(tmp_path, VectorSpec(kind="flat"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(SetupError, match="cannot be written"):
        built("flat", clustered(50, 24)).save(tmp_path / "file")


@pytest.mark.parametrize(
    ("values", "rows", "told"),
    [
        ({"kind": "ivf-pq"}, 623, "index.kind: ivf-pq learns from at least 624 .* take kind flat or hnsw"),
        ({"kind": "ivf-rabitq"}, 300, "index.kind: ivf-rabitq learns from at least 624 .* there are 300"),
        ({"kind": "ivf-pq", "pq_bits": 8}, 700, "at least 9,984"),
        ({"kind": "ivf-rabitq", "nlist": 100}, 700, "index.nlist: .* at least 3,900"),
        ({"kind": "diskann"}, 255, "index.kind: diskann learns from at least 256 .* there are 255"),
        ({"kind": "diskann", "disk_codes": 7}, 700, "index.disk_codes: 7 does not divide the dimension 24"),
        ({"kind": "ivf-pq", "pq_parts": 7}, 700, "index.pq_parts: 7 does not divide the dimension 24"),
    ],
)
def test_what_cannot_be_learned_from_says_what_to_take(values: dict[str, object], rows: int, told: str) -> None:
    with pytest.raises(PolicyError, match=told):
        new_index(VectorSpec.model_validate(values)).build(clustered(rows, 24))
