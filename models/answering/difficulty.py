"""How hard a question is for the small model: question and passages → P(the small model is good enough), by numpy."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from indexes.types import Passage, Vectors
from infra.errors import InputError
from infra.store import canonical_json, write_atomic
from models.answering.evidence import terms
from models.answering.guards.injections import sentences

Floats = NDArray[np.float64]
CARD = "difficulty.json"
WEIGHTS = "difficulty.safetensors"
LOOKED_AT = 5
"""Passages, best first, that the features look at."""

ASKS: dict[str, str] = {
    "amount": r"\bhow (?:many|much|long|often|far|large|high|old|deep|late|soon)\b",
    "how": r"\bhow\b",
    "who": r"\b(?:who|whom|whose)\b",
    "when": r"\b(?:when|what (?:time|day|date|year))\b",
    "where": r"\bwhere\b",
    "why": r"\bwhy\b",
    "which": r"\bwhich\b",
    "what": r"\bwhat\b",
    "yes_no": r"^(?:is|are|do|does|did|can|may|must|will|has|have|was|were|should)\b",
}
"""What a question asks for: the first pattern that is found in it."""
COUNTED: dict[str, re.Pattern[str]] = {
    "numbers": re.compile(r"\d+"),
    "names": re.compile(r"(?<=[a-z,] )[A-Z]\w+"),
    "facts": re.compile(r"\band\b|;|\?(?=.*\?)", re.IGNORECASE),
    "conditions": re.compile(r"\b(?:if|unless|without|except|before|after|under|while|until)\b", re.IGNORECASE),
    "comparisons": re.compile(r"\b(?:more|less|most|least|than|between|both|difference|\w+est)\b", re.IGNORECASE),
    "negations": re.compile(r"\b(?:not|no|never)\b|n't", re.IGNORECASE),
}
"""What is counted in a question."""
_NUMBER = COUNTED["numbers"]
_FOUND = (
    "overlap_best", "overlap_margin", "overlap_sentence", "dense_place", "lexical_place", "score_margin",
    "score_depth", "same_document", "numbers_best", "log_words_best",
)  # fmt: skip
FEATURES = ("log_words", *COUNTED, *(f"asks_{kind}" for kind in ASKS), *_FOUND)
"""The features beside the question's vector, in the order of the weights."""


def features(question: str, passages: Sequence[Passage]) -> Floats:
    """What is seen of a question without asking a model, shape (len(FEATURES),). `passages` are ranked, best first."""
    kind = next((name for name, pattern in ASKS.items() if re.search(pattern, question, re.IGNORECASE)), "")
    values = [
        math.log1p(len(question.split())),
        *(math.log1p(len(pattern.findall(question))) for pattern in COUNTED.values()),
        *(float(name == kind) for name in ASKS),
        *_of_passages(question, passages[:LOOKED_AT]),
    ]
    return np.array(values, dtype=np.float64)


def _of_passages(question: str, passages: Sequence[Passage]) -> list[float]:
    """How well the passages speak of the question, and how much they agree: the values of `_FOUND`."""
    if not passages:
        return [0.0] * len(_FOUND)
    wanted = terms(question)
    best, scores = passages[0], [passage.score for passage in passages]
    said = [_share(wanted, f"{passage.chunk.title} {passage.chunk.text}") for passage in passages]
    text = best.chunk.text
    inside = [_share(wanted, text[start:end]) for start, end in sentences(text)]
    scale = abs(scores[0]) or 1.0
    return [
        said[0],
        said[0] - max(said[1:], default=0.0),
        max(inside, default=0.0),
        1 / best.ranks["dense"] if "dense" in best.ranks else 0.0,
        1 / best.ranks["lexical"] if "lexical" in best.ranks else 0.0,
        (scores[0] - scores[min(1, len(scores) - 1)]) / scale,
        (scores[0] - scores[-1]) / scale,
        sum(passage.chunk.document == best.chunk.document for passage in passages) / len(passages),
        math.log1p(len(_NUMBER.findall(text))),
        math.log1p(len(text.split())),
    ]


def _share(wanted: frozenset[str], text: str) -> float:
    """Share of the question's terms that a text has."""
    return len(wanted & terms(text)) / len(wanted) if wanted else 0.0


class DifficultyCard(BaseModel):
    """What a classifier is besides its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    """Version of the encoder whose vectors it reads."""
    features: tuple[str, ...]
    """Names of the features that it was trained with."""
    bias: float
    slope: float
    """Calibration (Platt): P = σ(slope · z + offset) of the raw sum z. 0: nothing was learnt, P is the same for all."""
    offset: float
    small: str
    """Digest of the release whose success is foretold."""
    large: str
    """Digest of the release that it is compared with."""
    cases: int
    """Cases that it was fitted to."""


class Difficulty(NamedTuple):
    """A trained classifier. Arrays are float64: `mean`, `scale` and `weights` a feature, `vector` a dimension."""

    card: DifficultyCard
    mean: Floats
    scale: Floats
    weights: Floats
    vector: Floats

    def raw(self, vectors: Vectors, rows: Floats) -> Floats:
        """The sums before calibration: `vectors` (n, dimension) of the questions, `rows` (n, features)."""
        sums: Floats = self.card.bias + (rows - self.mean) / self.scale @ self.weights + vectors @ self.vector
        return sums

    def probabilities(self, vectors: Vectors, rows: Floats) -> Floats:
        """P(the small model is good enough), shape (n,), in (0, 1)."""
        return sigmoid(self.card.slope * self.raw(vectors, rows) + self.card.offset)

    def probability(self, question: str, vector: Vectors, passages: Sequence[Passage]) -> float:
        """The same for one question: its unit vector (dimension,) and its ranked passages."""
        return float(self.probabilities(vector[None, :], features(question, passages)[None, :])[0])


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(−values)), without overflow."""
    positive: Floats = 1 / (1 + np.exp(-np.abs(values)))
    return np.where(values >= 0, positive, 1 - positive)


def save_difficulty(model: Difficulty, folder: Path) -> None:
    """Write card and weights."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value) for name, value in model._asdict().items() if name != "card"}
    (folder / WEIGHTS).write_bytes(save(arrays))
    write_atomic(folder / CARD, canonical_json(model.card.model_dump(mode="json")))


def load_difficulty(folder: Path, encoder: str) -> Difficulty:
    """The classifier in `folder` for questions embedded by the encoder of this version.

    Raises: InputError for a damaged or incomplete file, another version's features, or another encoder.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = DifficultyCard.model_validate(json.loads((folder / CARD).read_text("utf-8")))
        arrays = {name: value.astype(np.float64) for name, value in load_file(folder / WEIGHTS).items()}
        model = Difficulty(card=card, **arrays)
    except (OSError, ValueError, TypeError, ValidationError, SafetensorError) as error:
        raise InputError(f"{folder}: no difficulty classifier: {error}; run `sluice run difficulty`") from error
    shape = (len(FEATURES),)
    if card.features != FEATURES or any(array.shape != shape for array in (model.mean, model.scale, model.weights)):
        raise InputError(f"{folder}: trained with other features; run `sluice run difficulty` again")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise InputError(f"{folder}: a weight is no number; run `sluice run difficulty` again")
    if card.encoder != encoder:
        raise InputError(
            f"{folder}: reads vectors of encoder {card.encoder}, this is {encoder}; run `sluice run difficulty` again"
        )
    return model
