"""Recipe of the injection classifier: `python -m models.training.attacks.train` writes the same bytes every time.

Attacks are made by family from grammars (families.py), harmless texts from grammars (harmless.py) and from the
project's own sample: questions of the train cases and sentences of two thirds of its documents. The threshold is the
lowest that none reaches of the rest of the sample, and of harmless sentences whose shapes were left out.
No public test set is read.
"""

import argparse
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.settings import ROOT
from models.answering.guards.classifier import BUCKETS, SHIPPED, ClassifierCard, buckets, save_classifier
from models.answering.guards.injections import clean, injection, sentences
from models.training.attacks.families import FAMILIES, attacks
from models.training.attacks.harmless import trigger_words

SAMPLE = ROOT / "infra" / "sample"
A_FAMILY = 250
HARMLESS = 4000
SEED = 5
_FOLDS = 4
_RIDGE = 1e-5
_STEPS = 800
Floats = NDArray[np.float64]


class Texts(NamedTuple):
    """What is learnt from, and what is held back to choose the threshold."""

    attacks: dict[str, list[str]]
    sample: list[str]
    made: list[tuple[int, str]]
    """Harmless sentences with the numbers of their shapes."""
    held: list[str]

    @property
    def harmless(self) -> list[str]:
        """All that is not an attack and not held back."""
        return [*self.sample, *(text for _, text in self.made)]


class Linear(NamedTuple):
    """Weights (BUCKETS,) and bias."""

    weights: NDArray[np.float32]
    bias: float

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Of each text, as the guard computes it."""
        found = [buckets(text) for text in texts]
        raw = [float(self.weights[one].sum()) / math.sqrt(max(1, len(one))) + self.bias for one in found]
        probabilities: Floats = 1 / (1 + np.exp(-np.array(raw)))
        return probabilities


def sample_texts() -> tuple[list[str], list[str]]:
    """(to learn from, held back): questions of the sample by their split, sentences of its documents by document."""
    learn: list[str] = []
    held: list[str] = []
    for split in ("train", "validation", "gate"):
        lines = (SAMPLE / "cases" / f"{split}.jsonl").read_text("utf-8").splitlines()
        questions = [str(json.loads(line)["question"]) for line in lines if not json.loads(line).get("forbidden")]
        (learn if split == "train" else held).extend(questions)
    for path in sorted((SAMPLE / "documents").rglob("*.md")):
        name = path.relative_to(SAMPLE).as_posix()
        text = clean(path.read_text("utf-8"))
        if injection(text):
            continue  # it is there to be an attack
        found = [" ".join(text[start:end].split()) for start, end in sentences(text)]
        (held if zlib.crc32(name.encode()) % 3 == 0 else learn).extend(one for one in found if len(one) > 20)
    return learn, held


def texts() -> Texts:
    """Everything, the same every time."""
    learn, held = sample_texts()
    return Texts(
        attacks={family: attacks(family, A_FAMILY, SEED) for family in FAMILIES},
        sample=learn,
        made=trigger_words(HARMLESS, SEED),
        held=held,
    )


def fit(bad: Sequence[str], good: Sequence[str]) -> Linear:
    """Logistic regression with a ridge, both classes of the same weight, by Nesterov's accelerated gradient."""
    from scipy.sparse import csr_matrix

    found = [buckets(text) for text in (*bad, *good)]
    lengths = [len(one) for one in found]
    values = np.repeat([1 / math.sqrt(max(1, length)) for length in lengths], lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    matrix = csr_matrix((values, np.concatenate(found), starts), shape=(len(found), BUCKETS))
    target = np.array([1.0] * len(bad) + [0.0] * len(good))
    share = np.where(target == 1, 0.5 / len(bad), 0.5 / len(good))
    weights, before, bias, bias_before = np.zeros(BUCKETS), np.zeros(BUCKETS), 0.0, 0.0
    for step in range(_STEPS):
        pull = step / (step + 3)
        ahead, bias_ahead = weights + pull * (weights - before), bias + pull * (bias - bias_before)
        error = share * (1 / (1 + np.exp(-(matrix @ ahead + bias_ahead))) - target)
        before, bias_before = weights, bias
        weights = ahead - 2.0 * (matrix.T @ error + _RIDGE * ahead)
        bias = bias_ahead - 2.0 * float(error.sum())
    return Linear(weights.astype(np.float16).astype(np.float32), round(bias, 6))


def unseen_harmless(made: Texts, bad: Sequence[str]) -> Floats:
    """Probabilities of the harmless sentences by classifiers that never saw their shapes."""
    found: list[Floats] = []
    for fold in range(_FOLDS):
        seen = [text for number, text in made.made if number % _FOLDS != fold]
        model = fit(bad, [*made.sample, *seen])
        found.append(model.probabilities([text for number, text in made.made if number % _FOLDS == fold]))
    return np.concatenate(found)


def threshold_of(*harmless: Floats) -> float:
    """The lowest that no unseen harmless text reaches; at least one half."""
    return max(0.5, *(math.nextafter(float(found.max()), 1) for found in harmless))


def left_out(made: Texts, family: str) -> Floats:
    """Whether each attack of a family is found by a classifier that never saw the family, at its own threshold."""
    others = [text for name, found in made.attacks.items() if name != family for text in found]
    model = fit(others, made.harmless)
    threshold = threshold_of(model.probabilities(made.held), unseen_harmless(made, others))
    hits: Floats = (model.probabilities(made.attacks[family]) >= threshold).astype(np.float64)
    return hits


def train(folder: Path) -> ClassifierCard:
    """Train on every family, measure with each left out, write weights and card."""
    made = texts()
    bad = [text for found in made.attacks.values() for text in found]
    model = fit(bad, made.harmless)
    threshold = threshold_of(model.probabilities(made.held), unseen_harmless(made, bad))
    card = ClassifierCard(
        bias=model.bias,
        threshold=math.ceil(threshold * 1e6) / 1e6,
        families={family: round(float(left_out(made, family).mean()), 4) for family in made.attacks},
        false_positives=round(float((model.probabilities(made.held) >= threshold).mean()), 4),
        texts=sum(map(len, made.attacks.values())) + len(made.harmless),
    )
    save_classifier(folder, model.weights, card)
    return card


def main() -> None:
    """Write the shipped classifier, or one elsewhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=SHIPPED)
    print(train(parser.parse_args().out).model_dump_json(indent=1))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
