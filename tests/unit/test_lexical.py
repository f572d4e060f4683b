"""BM25: its formula, its words, its determinism and its mask."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.lexical import LexicalIndex, words
from infra.errors import InputError, IntegrityError
from infra.settings import ROOT
from infra.store import folder_manifest

TEXTS = ["The pump runs all day.", "A pump and a pump and a valve.", "Prices rise to 6.40 euros.", "Rivers flow."]


@pytest.fixture
def index() -> LexicalIndex:
    made = LexicalIndex()
    made.build(TEXTS)
    return made


@pytest.fixture(scope="module")
def many() -> LexicalIndex:
    """More rows than a query names one by one."""
    made = LexicalIndex()
    made.build([f"pump w{row % 97} w{row % 31} w{row % 7} w{row}" for row in range(3000)])
    return made


def test_words_keep_numbers_and_fold_plurals() -> None:
    assert words("The Prices of 6.40 euros at 10:30, cities' pumps") == [
        "price",
        "6.40",
        "euro",
        "10:30",
        "city",
        "pump",
    ]


def test_scores_follow_the_formula(index: LexicalIndex) -> None:
    rows, scores = index.search("valve", 4)
    lengths = [len(words(text)) for text in TEXTS]
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    expected = idf * (1.2 + 1) / (1 + 1.2 * (1 - 0.75 + 0.75 * lengths[1] / np.mean(lengths)))
    assert rows.tolist() == [1]
    assert scores[0] == pytest.approx(expected, rel=1e-5)
    assert index.search("valve valve", 4)[1][0] == pytest.approx(2 * expected, rel=1e-5)


def test_only_passages_that_share_a_word_are_found(index: LexicalIndex) -> None:
    assert set(index.search("pump price", 10)[0].tolist()) == {0, 1, 2}
    assert index.search("unheard words only", 10)[0].size == 0
    assert index.search("the of", 10)[0].size == 0


def test_a_forbidden_passage_is_not_ranked_and_takes_no_place(index: LexicalIndex) -> None:
    allowed = np.array([True, False, True, True])
    assert index.search("pump", 1)[0].tolist() == [1]
    assert index.search("pump", 1, allowed)[0].tolist() == [0]
    assert index.search("valve", 4, allowed)[0].size == 0


def test_saved_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from indexes.lexical import LexicalIndex\n"
        f"made = LexicalIndex(); made.build({TEXTS!r}); made.save(Path(sys.argv[1]))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, str(tmp_path / seed)]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    files = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "2").iterdir())
    assert all((tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() for name in files)


def test_a_loaded_index_finds_the_same(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "bm25")
    loaded = LexicalIndex.load(tmp_path / "bm25")
    for question in ("pump valve", "price"):
        rows, scores = index.search(question, 4)
        same_rows, same_scores = loaded.search(question, 4)
        assert rows.tolist() == same_rows.tolist()
        assert scores.tolist() == same_scores.tolist()
    assert loaded.count == len(TEXTS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.integers(1, 40))
def test_behind_a_mask_stands_the_ranking_without_the_others(
    many: LexicalIndex, seed: int, share: float, k: int
) -> None:
    allowed = np.random.default_rng(seed).random(many.count) < share
    question = f"pump w{seed % 97} w{seed % 31} w{seed % 7}"
    rows, scores = many.search(question, many.count)
    kept = allowed[rows]
    found, values = many.search(question, k, allowed)
    assert found.tolist() == rows[kept][:k].tolist()
    assert values.tolist() == pytest.approx(scores[kept][:k].tolist(), rel=1e-6)


def test_rows_join_and_leave(index: LexicalIndex, tmp_path: Path) -> None:
    index.remove(np.array([1]))
    assert index.add(["A valve of bronze.", "Bronze bells."]).tolist() == [4, 5]
    assert index.search("valve", 9)[0].tolist() == [4]
    assert set(index.search("bronze", 9)[0].tolist()) == {4, 5}
    index.save(tmp_path / "bm25")
    loaded = LexicalIndex.load(tmp_path / "bm25")
    assert loaded.count == 6
    assert loaded.search("valve", 9)[0].tolist() == [4]
    with pytest.raises(InputError, match="row 6"):
        index.remove(np.array([6]))


def test_what_an_index_is_loaded_from_stays_as_it_is(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "bm25")
    before = folder_manifest("bm25", tmp_path / "bm25")
    loaded = LexicalIndex.load(tmp_path / "bm25")
    loaded.remove(np.array([0]))
    loaded.add(["Another pump."])
    assert set(loaded.search("pump", 9)[0].tolist()) == {1, 4}
    assert folder_manifest("bm25", tmp_path / "bm25") == before
    assert set(LexicalIndex.load(tmp_path / "bm25").search("pump", 9)[0].tolist()) == {0, 1}


def test_bad_input_and_damage_are_named(index: LexicalIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no word"):
        LexicalIndex().build(["the", "a"])
    with pytest.raises(IntegrityError, match="build the index again"):
        LexicalIndex.load(tmp_path / "nothing")
    index.save(tmp_path / "bm25")
    next((tmp_path / "bm25").glob("*.term")).write_bytes(b"damaged")
    with pytest.raises(IntegrityError):
        LexicalIndex.load(tmp_path / "bm25")
