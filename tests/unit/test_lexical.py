"""BM25: its formula, its words, its determinism and its mask."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexes.lexical import LexicalIndex, LexicalSpec, words
from infra.errors import InputError, IntegrityError
from infra.settings import ROOT

TEXTS = ["The pump runs all day.", "A pump and a pump and a valve.", "Prices rise to 6.40 euros.", "Rivers flow."]


@pytest.fixture
def index() -> LexicalIndex:
    made = LexicalIndex()
    made.build(TEXTS)
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
    expected = idf * 1 / (1 + 1.5 * (1 - 0.75 + 0.75 * lengths[1] / np.mean(lengths)))
    assert rows.tolist() == [1]
    assert scores[0] == pytest.approx(expected, rel=1e-5)


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
    assert loaded.spec == LexicalSpec()


def test_bad_input_and_damage_are_named(index: LexicalIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no word"):
        LexicalIndex().build(["the", "a"])
    with pytest.raises(IntegrityError, match="build the index again"):
        LexicalIndex.load(tmp_path / "nothing")
    index.save(tmp_path / "bm25")
    (tmp_path / "bm25" / "data.csc.index.npy").write_bytes(b"damaged")
    with pytest.raises(IntegrityError):
        LexicalIndex.load(tmp_path / "bm25")
