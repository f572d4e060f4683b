"""Trains a small cross-encoder on a corpus's own questions: their passages against what retrieval mistakes for them."""

import importlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from indexes.weights import EMBEDDED, model_folder
from infra.errors import InputError
from infra.settings import Spec
from infra.store import canonical_json, write_atomic

REPORT = "training.json"

_WINDOW = 16
"""Batches among which pairs are sorted by length, so that little is padded."""


class CrossEncoderSpec(Spec):
    """How a cross-encoder is trained."""

    base: str = EMBEDDED
    """Encoder to start from: `minilm`, a folder, or a Hugging Face id."""
    revision: str = ""
    """Commit of a Hugging Face id; empty = the newest."""
    negatives: int = Field(4, ge=1, le=100)
    """Wrong passages a question, the best that the first stage finds (see mined_pairs)."""
    epochs: int = Field(2, ge=1, le=100)
    """How often every pair is seen."""
    batch_size: int = Field(8, ge=1, le=512)
    """Pairs in one step."""
    learning_rate: float = Field(1e-4, gt=0, le=0.1)
    """Peak learning rate of AdamW; it rises over the first tenth of the steps and falls linearly to zero."""
    max_tokens: int = Field(256, ge=16, le=8192)
    """Tokens of question and passage that are read; the rest of a longer passage is cut off."""
    seed: int = Field(0, ge=0)
    """Seed of the scoring head, of dropout and of the order of the pairs."""
    threads: int = Field(1, ge=1)
    """Compute threads."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Asked(_Frozen):
    """A question and the ids of the chunks that answer it."""

    question: str
    relevant: frozenset[str]


class Pair(_Frozen):
    """What the cross-encoder learns from: whether a passage answers a question."""

    question: str
    passage: str
    relevant: bool


class CrossEncoderReport(_Frozen):
    """What a training run made."""

    pairs: int
    positives: int
    steps: int
    losses: tuple[float, ...]
    """Binary cross-entropy in nats a pair, one a step."""


def mined_pairs(
    asked: Iterable[Asked], ranked: Callable[[str], Sequence[str]], texts: Mapping[str, str], negatives: int
) -> list[Pair]:
    """Every question with its relevant chunks and with the wrong ones that rank best (hard negatives).

    `ranked` gives the ids of the chunks that the first stage finds for a question, best first; `texts` maps the id of
    every chunk to what a reranker will read of it. A question without a relevant chunk in `texts` is left out.
    """
    pairs = []
    for item in asked:
        right = sorted(item.relevant & texts.keys())
        if not right:
            continue
        wrong = [chunk for chunk in ranked(item.question) if chunk not in item.relevant][:negatives]
        pairs += [Pair(question=item.question, passage=texts[chunk], relevant=True) for chunk in right]
        pairs += [Pair(question=item.question, passage=texts[chunk], relevant=False) for chunk in wrong]
    return pairs


def train_cross_encoder(
    pairs: Sequence[Pair],
    spec: CrossEncoderSpec,
    root: Path,
    folder: Path,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> CrossEncoderReport:
    """Train on `pairs` by binary cross-entropy and write model, tokenizer and report into `folder`.

    `folder` then is a `model` of RerankSpec. On a CPU the same pairs, spec and base give the same bytes.
    `progress(step, steps, loss)`. Raises: InputError without both right and wrong pairs; as model_folder does.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    talk = importlib.import_module("transformers.utils.logging")
    talk.disable_progress_bar()
    talk.set_verbosity_error()  # it would warn that the scoring head is new, which it is meant to be
    positives = sum(pair.relevant for pair in pairs)
    if not 0 < positives < len(pairs):
        raise InputError(
            f"a reranker learns from right and wrong passages: {positives} of {len(pairs)} pairs are right"
        )
    base = model_folder(spec.base, spec.revision, root, "rerank.base")
    torch.set_num_threads(spec.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, use_safetensors=True, dtype=torch.float32
        ).train()
        losses = _fit(model, tokenizer, pairs, spec, progress)
    report = CrossEncoderReport(pairs=len(pairs), positives=positives, steps=len(losses), losses=tuple(losses))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_atomic(folder / REPORT, canonical_json(report.model_dump() | {"spec": spec.model_dump()}) + "\n")
    return report


def _fit(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    spec: CrossEncoderSpec,
    progress: Callable[[int, int, float], None],
) -> list[float]:
    """The loss of every step."""
    import torch

    steps = spec.epochs * -(-len(pairs) // spec.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=0.01)
    rise = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (steps - step) / max(1, steps - rise))
    )
    losses: list[float] = []
    for batch in _batches(pairs, spec):
        features = tokenizer(
            [pair.question for pair in batch],
            [pair.passage for pair in batch],
            truncation="only_second",
            max_length=spec.max_tokens,
            padding=True,
            return_tensors="pt",
        )
        labels = torch.tensor([float(pair.relevant) for pair in batch])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**features).logits[:, 0], labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        progress(len(losses), steps, losses[-1])
    return losses


def _batches(pairs: Sequence[Pair], spec: CrossEncoderSpec) -> Iterator[list[Pair]]:
    """All pairs once an epoch in random order, those of similar length together."""
    chance = random.Random(spec.seed)  # noqa: S311 - an order, no secret
    window = _WINDOW * spec.batch_size
    for _ in range(spec.epochs):
        shuffled = chance.sample(pairs, len(pairs))
        batches = []
        for first in range(0, len(shuffled), window):
            near = sorted(shuffled[first : first + window], key=lambda pair: len(pair.question) + len(pair.passage))
            batches += [near[i : i + spec.batch_size] for i in range(0, len(near), spec.batch_size)]
        chance.shuffle(batches)
        yield from batches
