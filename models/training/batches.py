"""What the trainer sees: rows that fit, in a fixed order, and the proof that exactly their answers carry a loss."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.errors import InputError
from models.training.rows import TrainingRow

IGNORED = -100
"""Label of a token that carries no loss."""


class Prepared(NamedTuple):
    """Rows that fit, the order in which they are seen (epochs included), their tokens, and the tokenizer."""

    rows: list[TrainingRow]
    order: list[int]
    tokens: int
    tokenizer: Any


def chat_of(row: TrainingRow) -> list[dict[str, str]]:
    """The messages as a chat template takes them."""
    return [message.model_dump() for message in row.messages]


def prepare(
    base_folder: Path, rows: Sequence[TrainingRow], epochs: int, batch_size: int, max_length: int, seed: int
) -> Prepared:
    """Measure the rows, leave out what is too long, and fix their order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)
    if not tokenizer.chat_template:
        raise InputError(f"{base_folder}: its tokenizer has no chat template; fine-tuning needs one")
    chats = [tokenizer.apply_chat_template(chat_of(row), tokenize=False) for row in rows]
    lengths = [len(ids) for ids in tokenizer(chats, add_special_tokens=False)["input_ids"]]
    kept = [index for index, length in enumerate(lengths) if length <= max_length]
    if not kept:
        raise InputError(
            f"training: all {len(rows)} rows are longer than max_length {max_length} (the shortest has"
            f" {min(lengths)} tokens); raise training.max_length or show fewer passages"
        )
    order = row_order([lengths[index] for index in kept], epochs, batch_size, seed)
    tokens = sum(lengths[kept[place]] for place in order)
    return Prepared([rows[index] for index in kept], order, tokens, tokenizer)


def row_order(lengths: Sequence[int], epochs: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the rows in the order they are seen: every epoch shuffled, rows of like length in one batch.

    Fixed in advance and not by a sampler, so that a resumed run sees exactly what the killed one would have seen.
    """
    rng = random.Random(seed)  # noqa: S311 - shuffling, nothing secret
    seen: list[int] = []
    for _ in range(epochs):
        epoch = list(range(len(lengths)))
        rng.shuffle(epoch)
        seen += epoch
    size, order = batch_size, list[int]()
    for start in range(0, len(seen), size * 16):
        window = sorted(seen[start : start + size * 16], key=lambda index: lengths[index])
        batches = [window[place : place + size] for place in range(0, len(window), size)]
        rest = [batches.pop()] if len(batches[-1]) < size else []
        rng.shuffle(batches)
        order += [index for batch in [*batches, *rest] for index in batch]
    return order


def check_labels(dataset: Any, prepared: Prepared) -> None:
    """Raise InputError unless, in every row, the tokens with a loss are the answers and their end, and nothing else."""
    tokenizer = prepared.tokenizer
    places = {index: place for place, index in reversed(list(enumerate(prepared.order)))}
    for index, row in enumerate(prepared.rows):
        example = dataset[places[index]]
        learnt = [
            tokenizer.decode(piece, skip_special_tokens=True).strip()
            for piece in _runs(example["input_ids"], example["labels"])
        ]
        answers = [message.content.strip() for message in row.messages if message.role == "assistant"]
        if learnt != answers:
            raise InputError(f"{row.source}: the chat template marks {learnt} for learning, not the answers {answers}")


def _runs(ids: Sequence[int], labels: Sequence[int]) -> list[list[int]]:
    """Runs of neighbouring tokens that carry a loss."""
    runs: list[list[int]] = []
    inside = False
    for token, label in zip(ids, labels, strict=True):
        if label != IGNORED:
            if not inside:
                runs.append([])
            runs[-1].append(token)
        inside = label != IGNORED
    return runs
