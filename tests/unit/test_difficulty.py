"""The difficulty classifier: what it was made to find it finds, of noise it says nothing, and its files are checked."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.types import Chunk, Passage
from infra.errors import InputError
from models.answering.difficulty import (
    CARD,
    FEATURES,
    WEIGHTS,
    Difficulty,
    Floats,
    features,
    load_difficulty,
    save_difficulty,
)
from models.training.difficulty import Described, DifficultySpec, Fitted, fit_difficulty

SPEC = DifficultySpec()
NAMES = {"encoder": "enc-1", "small": "s" * 64, "large": "l" * 64}


def passage(text: str, score: float, document: str = "d", **ranks: int) -> Passage:
    chunk = Chunk(id=text[:8], document=document, title="Fees", text=text, start=0, end=len(text), tokens=9)
    return Passage(chunk=chunk, score=score, ranks=ranks)


def seen(question: str, *passages: Passage) -> dict[str, float]:
    return dict(zip(FEATURES, features(question, passages).tolist(), strict=True))


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many steps has the stair?", "amount"),
        ("At what time does the last ferry leave?", "when"),
        ("Who signs the permit?", "who"),
        ("Is the harbour open?", "yes_no"),
        ("How is a complaint filed?", "how"),
        ("Name the fee.", ""),
    ],
)
def test_what_is_asked_for(question: str, kind: str) -> None:
    found = {name for name, value in seen(question).items() if name.startswith("asks_") and value}
    assert found == ({f"asks_{kind}"} if kind else set())


def test_what_is_seen_of_question_and_passages() -> None:
    one = passage("The mooring fee is 64 euros. It is due in May.", 0.03, dense=1, lexical=2)
    two = passage("Boats sail at 6 knots.", 0.02, document="e", dense=3)
    found = seen("What is the mooring fee in 2026, and when is it due?", one, two)
    assert found["numbers"] > 0
    assert found["facts"] > 0
    assert found["overlap_best"] == pytest.approx(3 / 4), "mooring, fee and due of four terms"
    assert found["overlap_margin"] == pytest.approx(2 / 4), "fee stands in the title of both"
    assert found["overlap_sentence"] == pytest.approx(2 / 4)
    assert (found["dense_place"], found["lexical_place"]) == (1.0, 0.5)
    assert found["score_margin"] == pytest.approx(1 / 3)
    assert found["same_document"] == 0.5
    nothing = seen("What is the fee?")
    assert all(np.isfinite(value) for value in nothing.values())
    assert nothing["overlap_best"] == 0


def world(seed: int, n: int = 600, signal: float = 2.0) -> tuple[Described, Floats, Any, Floats]:
    """Random features and vectors; the log odds are `signal` times one feature and three times one direction."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n, len(FEATURES)))
    vectors = random.normal(size=(n, 24))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    documents = np.arange(n) // 3
    truth = 1 / (1 + np.exp(-(0.5 + signal * rows[:, 4] + 1.5 * signal * vectors[:, 0])))
    labels = (random.random(n) < truth).astype(np.float64)
    return Described(vectors, rows), labels, documents, truth


def fit(described: Described, labels: Floats, documents: Any, **changed: Any) -> Fitted:
    spec = SPEC.model_copy(update=changed)
    return fit_difficulty(described, labels, documents, np.ones(len(labels), bool), spec, **NAMES)


def test_what_it_was_made_to_find_it_finds_and_foretells_new_cases_rightly() -> None:
    described, labels, documents, _ = world(1)
    found = fit(described, labels, documents)
    new, _, _, truth = world(2)
    told = found.model.probabilities(*new)
    assert np.corrcoef(told, truth)[0, 1] > 0.9
    edges = np.quantile(told, [0, 0.25, 0.5, 0.75, 1])
    for low, high in pairwise(edges):
        inside = (told >= low) & (told <= high)
        assert told[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.06)
    assert found.losses[found.strength] == min(found.losses.values())


def test_cases_are_foretold_by_fits_that_had_not_seen_their_documents() -> None:
    """Labels that depend on the document alone cannot be foretold across documents, however well they can be learnt."""
    random = np.random.default_rng(5)
    documents = np.arange(400) // 8
    marks = random.normal(size=(50, 64))
    vectors = (marks / np.linalg.norm(marks, axis=1, keepdims=True))[documents].astype(np.float32)
    labels = random.integers(0, 2, 50).astype(float)[documents]
    found = fit(Described(vectors, np.zeros((400, len(FEATURES)))), labels, documents, strengths=(10.0,))
    learnt = found.model.raw(vectors, np.zeros((400, len(FEATURES))))
    assert ((learnt > 0) == labels).mean() > 0.9
    assert ((found.foretold > 0.5) == labels).mean() < 0.7


def test_of_noise_it_says_little() -> None:
    described, labels, documents, _ = world(3, n=300, signal=0.0)
    found = fit(described, labels, documents)
    assert np.abs(found.foretold - labels.mean()).max() < 0.2


def test_scores_that_foretell_the_opposite_give_every_question_the_same_probability() -> None:
    """Leaving a document out shifts the others' mean away from it: with no signal the slope comes out negative."""
    labels = np.tile([0.0, 1.0], 30)
    described = Described(np.zeros((60, 2), np.float32), np.zeros((60, len(FEATURES))))
    found = fit(described, labels, np.arange(60), folds=50)
    assert found.model.card.slope == 0
    assert set(found.foretold.round(9)) == {0.5}


def test_labels_that_are_all_alike() -> None:
    described, _, documents, _ = world(4, n=60)
    found = fit(described, np.ones(60), documents)
    assert (found.model.weights == 0).all()
    assert found.foretold == pytest.approx(61 / 62)


def test_too_few_documents() -> None:
    described, labels, _, _ = world(4, n=60)
    with pytest.raises(InputError, match="cases of at least two documents"):
        fit(described, labels, np.zeros(60, int))


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[tuple[Path, Difficulty]]:
    described, labels, documents, _ = world(6, n=90)
    model = fit(described, labels, documents).model
    save_difficulty(model, tmp_path)
    yield tmp_path, model


def test_it_comes_back_from_disk_as_it_was(saved: tuple[Path, Difficulty]) -> None:
    folder, model = saved
    again = load_difficulty(folder, "enc-1")
    described, *_ = world(7, n=20)
    assert (again.probabilities(*described) == model.probabilities(*described)).all()
    one = passage("The mooring fee is 64 euros.", 0.03, dense=1)
    told = again.probability("What is the mooring fee?", described.vectors[0], [one])
    assert 0 < told < 1
    before = (folder / WEIGHTS).read_bytes()
    save_difficulty(again, folder)
    assert (folder / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        (WEIGHTS, b"torn", "no difficulty classifier"),
        (CARD, b"{}", "no difficulty classifier"),
        (CARD, None, "no difficulty classifier"),
    ],
)
def test_damaged_files(saved: tuple[Path, Difficulty], file: str, data: bytes | None, says: str) -> None:
    folder, _ = saved
    if data is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(data)
    with pytest.raises(InputError, match=says):
        load_difficulty(folder, "enc-1")


def test_another_encoder_and_other_features(saved: tuple[Path, Difficulty]) -> None:
    folder, model = saved
    with pytest.raises(InputError, match="reads vectors of encoder enc-1, this is enc-2"):
        load_difficulty(folder, "enc-2")
    save_difficulty(model._replace(card=model.card.model_copy(update={"features": ("x",)})), folder)
    with pytest.raises(InputError, match="trained with other features"):
        load_difficulty(folder, "enc-1")
    save_difficulty(model._replace(vector=np.full(24, np.nan)), folder)
    with pytest.raises(InputError, match="a weight is no number"):
        load_difficulty(folder, "enc-1")
