"""Injection classifier: hashed words and pairs of words with logistic weights, or any text classifier by name.

What it has learnt and how far that goes stands in the card beside the weights. It is one layer: what it misses meets
the mark below the passages and the rights of the request path.
"""

import json
import math
import re
import zlib
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.errors import InputError, SetupError

SHIPPED = Path(__file__).parent / "weights"
CARD = "classifier.json"
WEIGHTS = "classifier.safetensors"
BUCKETS = 2**15
MOST_WORDS = 400
"""Words of a text that are looked at."""
_WORD = re.compile(r"[^\W\d_]+|\d+|<\||[#<>]{2,}|http")
HARMFUL = ("injection", "jailbreak", "unsafe", "malicious", "label_1", "1")
"""Names of the class that speaks of an attack, as public models call it."""


class ClassifierCard(BaseModel):
    """What the weights are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: float
    threshold: float
    """Least probability that counts as an attack: no unseen harmless text reached it."""
    families: dict[str, float]
    """Share of each family's attacks that was found at that threshold when the family was left out of the training."""
    false_positives: float
    """Share of the held-back texts of the sample that reached the threshold."""
    texts: int


class Classifier(Protocol):
    """Says how much a text looks like an attack."""

    threshold: float

    def probability(self, text: str) -> float:
        """0 to 1."""
        ...


def buckets(text: str) -> list[int]:
    """Numbers of the features of a text, each once: words, pairs, and pairs with a gap; figures count as one word."""
    words = ["0" if word.isdigit() else word for word in _WORD.findall(text.casefold())[:MOST_WORDS]]
    padded = ["^", *words, "$"]
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(padded))]
    grams += [f"{a} * {b}" for a, b in zip(words, words[2:], strict=False)]
    return sorted({zlib.crc32(gram.encode()) % BUCKETS for gram in grams})


class HashedClassifier:
    """Logistic regression over hashed n-grams; a text's features are scaled to length 1."""

    def __init__(self, weights: NDArray[np.float32], bias: float, threshold: float) -> None:
        self.threshold = threshold
        self._weights = weights
        self._bias = bias
        self._cached = lru_cache(maxsize=8192)(self._probability)  # popular sentences come again and again

    def probability(self, text: str) -> float:
        """See Classifier."""
        return self._cached(text)

    def _probability(self, text: str) -> float:
        found = buckets(text)
        if not found:
            return 0.0
        raw = float(self._weights[found].sum()) / math.sqrt(len(found)) + self._bias
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, raw))))


def save_classifier(folder: Path, weights: NDArray[np.float32], card: ClassifierCard) -> None:
    """Write card and weights (as float16)."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(save({"weights": np.ascontiguousarray(weights, np.float16)}))
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", "utf-8")


def load_hashed(folder: Path) -> tuple[HashedClassifier, ClassifierCard]:
    """The classifier in a folder with its card. Raises InputError for a damaged or incomplete one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = ClassifierCard.model_validate(json.loads((folder / CARD).read_text("utf-8")))
        weights = load_file(folder / WEIGHTS)["weights"].astype(np.float32)
    except (OSError, ValueError, KeyError, ValidationError, SafetensorError) as error:
        raise InputError(f"{folder}: no classifier: {error}; run `python -m models.training.attacks.train`") from error
    if weights.shape != (BUCKETS,) or not np.isfinite(weights).all():
        raise InputError(f"{folder}: weights of another form; run `python -m models.training.attacks.train`")
    return HashedClassifier(weights, card.bias, card.threshold), card


class TransformersClassifier:
    """A text-classification model of Hugging Face, from safetensors alone and without code of its own."""

    def __init__(self, model: str, threshold: float) -> None:
        """Raises SetupError when the model cannot be loaded."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.threshold = threshold
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(model, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            raise SetupError(f"guards.classifier: {model} cannot be loaded ({error})") from error
        names = {str(name).casefold(): int(number) for number, name in self._model.config.id2label.items()}
        self._bad = next((names[name] for name in HARMFUL if name in names), None)
        if self._bad is None:
            raise SetupError(f"guards.classifier: {model} has the classes {sorted(names)}; none of {HARMFUL}")
        self._cached = lru_cache(maxsize=8192)(self._probability)

    def probability(self, text: str) -> float:
        """See Classifier."""
        return self._cached(text)

    def _probability(self, text: str) -> float:
        import torch

        made = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        with torch.inference_mode():
            return float(self._model(**made).logits.softmax(-1)[0, self._bad])


@lru_cache(maxsize=4)
def open_classifier(name: str, threshold: float | None) -> Classifier:
    """`shipped`, or a folder or Hugging Face id of a text-classification model; loaded at first use, once a process.

    Raises: InputError for damaged weights, SetupError for a model that cannot be loaded.
    """
    if name == "shipped":
        found, card = load_hashed(SHIPPED)
        found.threshold = card.threshold if threshold is None else threshold
        return found
    return TransformersClassifier(name, 0.5 if threshold is None else threshold)
