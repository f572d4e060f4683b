"""What the input guards find, what they stop wrongly, and what each of them costs."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.benches import BenchRow
from evaluation.intervals import mean_interval
from models.answering.guards.classifier import open_classifier
from models.answering.guards.decoding import DECODERS, views
from models.answering.guards.guardrails import Guards
from models.answering.guards.injections import clean, injection, without_injections, without_sentences
from models.training.attacks.train import left_out, sample_texts, texts

Floats = NDArray[np.float64]
_WARM = 50


def share_row(name: str, hits: Sequence[bool] | Floats) -> BenchRow:
    """A share with its 95 % interval."""
    values = np.asarray(hits, dtype=np.float64)
    found = mean_interval(values, np.arange(len(values)))
    return BenchRow(
        name=f"{name} (n = {len(values)})", value=round(found.mean, 4), unit="share", low=found.low, high=found.high
    )


def _by_rule(text: str) -> bool:
    return any(injection(clean(view)) for _, view in views(text))


def _by_classifier(text: str) -> bool:
    classifier = open_classifier("shipped", None)
    return max(classifier.probability(clean(view)) for _, view in views(text)) >= classifier.threshold


DETECTORS: dict[str, Callable[[str], bool]] = {"rules": _by_rule, "classifier": _by_classifier}


def recall_rows() -> list[BenchRow]:
    """Recall of each family: by a classifier that never saw the family, and by the rules."""
    made = texts()
    rows = []
    for family, found in made.attacks.items():
        rows.append(share_row(f"{family}: found, family left out of the training", left_out(made, family)))
        rows.append(share_row(f"{family}: found by rules", [_by_rule(text) for text in found]))
    return rows


def false_positive_rows(corpora: Path) -> list[BenchRow]:
    """Harmless texts that are taken for attacks: the sample's that the recipe held back, and public ones where they
    are there; with them the recall on a public set of instructions hidden in passages."""
    _, held = sample_texts()
    sets = {
        "sample questions held back": [text for text in held if text.endswith("?")],
        "sample sentences held back": [text for text in held if not text.endswith("?")],
    }
    if (corpora / "notinject").is_dir():
        lines = [
            line for path in sorted((corpora / "notinject").glob("*.jsonl")) for line in path.open(encoding="utf-8")
        ]
        sets["notinject"] = [str(json.loads(line)["prompt"]) for line in lines]
    rows = [
        share_row(f"{name}: stopped wrongly by {detector}", [is_attack(text) for text in found])
        for name, found in sets.items()
        for detector, is_attack in DETECTORS.items()
    ]
    bipia = corpora / "bipia" / "text_attack_train.json"
    if bipia.is_file():
        orders = [str(text) for found in json.loads(bipia.read_text("utf-8")).values() for text in found]
        rows += [
            share_row(f"BIPIA instructions: found by {detector}", [is_attack(text) for text in orders])
            for detector, is_attack in DETECTORS.items()
        ]
    return rows


def _all_of(decode: Callable[[str], Iterable[str]], text: str) -> list[str]:
    """Everything that a decoder yields."""
    return list(decode(text))


def cost_rows(guards: Guards) -> list[BenchRow]:
    """Milliseconds of each guard, p50 and p99, on the sample's held-back questions and sentences, nothing cached."""
    _, held = sample_texts()
    questions = [text for text in held if text.endswith("?")]
    classify = open_classifier("shipped", None)
    scan = without_injections.__wrapped__
    steps: dict[str, tuple[Sequence[str], Callable[[str], object]]] = {
        **{f"decoder {name}": (questions, partial(_all_of, one)) for name, one in DECODERS.items()},
        "all views": (questions, views),
        "rules over all views": (questions, _by_rule),
        "classifier": (questions, getattr(classify, "_probability", classify.probability)),
        "personal data": (questions, guards.personal.find),
        "whole question": (questions, guards.question),
        "passage, rules": (held, scan),
        "passage, classifier": (
            held,
            lambda text: without_sentences(text, lambda one: classify.probability(one) >= classify.threshold),
        ),
    }
    rows = []
    for name, (inputs, step) in steps.items():
        rows += tail_rows(name, spent_ms(inputs, step)[_WARM:], "ms")
    return rows


def tail_rows(name: str, values: Sequence[float] | Floats, unit: str) -> list[BenchRow]:
    """Rows of the median and of the value that one in a hundred exceeds."""
    return [
        BenchRow(name=f"{name}: p{share}", value=round(float(np.percentile(values, share)), 4), unit=unit)
        for share in (50, 99)
    ]


def spent_ms(inputs: Sequence[str], step: Callable[[str], object]) -> Floats:
    """Milliseconds of each call."""
    spent = []
    for text in inputs:
        begin = time.perf_counter()
        step(text)
        spent.append((time.perf_counter() - begin) * 1000)
    return np.array(spent)
