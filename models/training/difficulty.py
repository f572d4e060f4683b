"""Trains the difficulty classifier: logistic regression on which model got which case right, across documents."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from indexes.retriever import Retriever
from indexes.types import Embedder, Vectors
from infra.errors import InputError
from infra.settings import Spec
from models.answering.difficulty import FEATURES, Difficulty, DifficultyCard, Floats, features, sigmoid
from models.types import Case

PLATT_STRENGTH = 100.0
"""C of the two-parameter calibration: only keeps it finite where scores separate the labels."""


class DifficultySpec(Spec):
    """Section `difficulty`: which small model is foretold, and how the classifier is trained."""

    small: str = Field("student", min_length=1)
    """The small model: `student` (comes with the project), a folder relative to the policy file, or a Hugging Face
    id. The large one is the fine-tuned release."""
    learn: tuple[str, ...] = Field(("train", "validation"), min_length=1)
    """Splits that weights are fitted to. Calibration and the choice of a threshold use `validation` alone, the proof
    `gate` alone, which must not stand here."""
    strengths: tuple[float, ...] = Field((0.003, 0.01, 0.03, 0.1, 0.3), min_length=1)
    """Values of C (weaker penalty when larger) that are tried; the lowest log loss across documents wins."""
    vector_weight: float = Field(4.0, ge=0)
    """What the question's unit vector is multiplied by beside features of unit variance; 0 leaves it out."""
    folds: int = Field(5, ge=2, le=50)
    """Parts that the source documents are divided into: each is foretold by a fit to the others."""


class Described(NamedTuple):
    """Questions as the classifier reads them."""

    vectors: Vectors
    """Unit vectors of the questions, (n, dimension)."""
    rows: Floats
    """Their features, (n, len(FEATURES))."""


class Fitted(NamedTuple):
    """A classifier, and what each case was foretold by a fit that had not seen its documents."""

    model: Difficulty
    foretold: Floats
    """Calibrated probabilities, (n,)."""
    strength: float
    losses: dict[float, float]
    """Strength → log loss across documents, before calibration."""


def describe(
    cases: Sequence[Case],
    retriever: Retriever,
    embedder: Embedder,
    access: frozenset[str],
    k: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Described:
    """Vectors and features of the cases' questions, in their order; searched as a release of `k` passages does."""
    rows = []
    for done, case in enumerate(cases, 1):
        rows.append(features(case.question, retriever.search(case.question, access, k)))
        progress(done, len(cases))
    return Described(np.stack([embedder.query(case.question) for case in cases]), np.stack(rows))


def fit_difficulty(
    asked: Described,
    labels: Floats,
    clusters: NDArray[np.int64],
    calibrate: NDArray[np.bool_],
    spec: DifficultySpec,
    *,
    encoder: str,
    small: str,
    large: str,
) -> Fitted:
    """Fit to `labels` (n,), 1 where the small model was good enough; `clusters` (n,) are source documents.

    Strength and calibration come from probabilities across documents; the calibration from the cases of `calibrate`
    alone. Where these say nothing about the labels (a negative slope), slope 0 gives every question the same
    probability. Raises InputError with fewer than two documents to calibrate on or to fit to.
    """
    if len(np.unique(clusters)) < 2 or len(np.unique(clusters[calibrate])) < 2:
        raise InputError("difficulty: cases of at least two documents are needed in `learn`, and in validation")
    scale = asked.rows.std(axis=0)
    mean, scale = asked.rows.mean(axis=0), np.where(scale > 0, scale, 1.0)
    table = np.hstack([(asked.rows - mean) / scale, spec.vector_weight * asked.vectors])
    across = {strength: _across(table, labels, clusters, strength, spec.folds) for strength in spec.strengths}
    losses = {strength: _log_loss(labels, sums) for strength, sums in across.items()}
    strength = min(losses, key=lambda one: (losses[one], one))
    slope, offset = _platt(across[strength][calibrate], labels[calibrate])
    weights, bias = _weights(table, labels, strength)
    card = DifficultyCard(
        encoder=encoder,
        features=FEATURES,
        bias=bias,
        slope=slope,
        offset=offset,
        small=small,
        large=large,
        cases=len(labels),
    )
    cut = asked.rows.shape[1]
    model = Difficulty(card, mean, scale, weights[:cut], spec.vector_weight * weights[cut:])
    return Fitted(model, sigmoid(slope * across[strength] + offset), strength, losses)


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=2000)


def _weights(table: Floats, labels: Floats, strength: float) -> tuple[Floats, float]:
    """(weights, bias). Labels that are all alike give no weights and the log odds of the rule of succession."""
    if len(np.unique(labels)) < 2:
        share = (labels.sum() + 1) / (len(labels) + 2)
        return np.zeros(table.shape[1]), float(np.log(share / (1 - share)))
    fitted = _regression(strength).fit(table, labels)
    return fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0])


def _across(table: Floats, labels: Floats, clusters: NDArray[np.int64], strength: float, folds: int) -> Floats:
    """The raw sum of every case by a fit to the documents of other folds, (n,)."""
    from sklearn.model_selection import GroupKFold

    sums = np.empty(len(labels))
    for learnt, held in GroupKFold(min(folds, len(np.unique(clusters)))).split(table, labels, clusters):
        weights, bias = _weights(table[learnt], labels[learnt], strength)
        sums[held] = table[held] @ weights + bias
    return sums


def _log_loss(labels: Floats, sums: Floats) -> float:
    """Mean of −log P(label)."""
    return float(np.logaddexp(0, np.where(labels > 0.5, -sums, sums)).mean())


def _platt(sums: Floats, labels: Floats) -> tuple[float, float]:
    """Slope and offset that turn sums into calibrated log odds (Platt 1999); slope 0 where sums are no help."""
    weights, bias = _weights(sums[:, None], labels, PLATT_STRENGTH)
    if weights[0] > 0:
        return float(weights[0]), bias
    share = (labels.sum() + 1) / (len(labels) + 2)
    return 0.0, float(np.log(share / (1 - share)))
