"""Batches of logit distillation: rows as tokens with labels, and the prompt that the student may answer itself."""

import random
from collections.abc import Sequence
from typing import Any

from models.training.batches import IGNORED, Prepared, chat_of, check_labels

Example = dict[str, Any]
"""`input_ids`, `labels` (IGNORED where nothing is learnt), and `prompt_length`: tokens before one of the replies."""


def examples(prepared: Prepared, seed: int) -> list[Example]:
    """Tokens of the rows in the order they are seen. Which reply of a row is asked for is drawn here, once.

    Raises: InputError where the chat template marks anything but the answers.
    """
    tokenized = [_tokens(chat_of(row), prepared.tokenizer) for row in prepared.rows]
    rng = random.Random(seed)  # noqa: S311 - sampling, nothing secret
    made = [
        tokenized[index] | {"prompt_length": rng.choice(_reply_starts(tokenized[index]["labels"]))}
        for index in prepared.order
    ]
    check_labels(made, prepared)
    return made


def _tokens(chat: list[dict[str, str]], tokenizer: Any) -> Example:
    found = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    ids, marks = found["input_ids"], found["assistant_masks"]
    return {
        "input_ids": ids,
        "labels": [token if mark else IGNORED for token, mark in zip(ids, marks, strict=True)],
    }


def _reply_starts(labels: Sequence[int]) -> list[int]:
    """Places where a run of learnt tokens begins; the end where nothing is learnt (`check_labels` refuses that row)."""
    starts = [
        place for place, label in enumerate(labels) if label != IGNORED and (not place or labels[place - 1] == IGNORED)
    ]
    return starts or [len(labels)]


class Collator:
    """Pads a batch: whole rows to the right, and prompts to the left, as generation wants them."""

    def __init__(self, pad_token: int) -> None:
        self.pad_token = pad_token

    def __call__(self, batch: Sequence[Example]) -> dict[str, Any]:
        """The tensors that trl's GKDTrainer reads, each of shape (rows, longest)."""
        rows = [row["input_ids"] for row in batch]
        prompts = [row["input_ids"][: row["prompt_length"]] for row in batch]
        return {
            "input_ids": _padded(rows, self.pad_token),
            "attention_mask": _padded([[1] * len(row) for row in rows], 0),
            "labels": _padded([row["labels"] for row in batch], IGNORED),
            "prompts": _padded(prompts, self.pad_token, left=True),
            "prompt_attention_mask": _padded([[1] * len(prompt) for prompt in prompts], 0, left=True),
        }


def _padded(rows: Sequence[Sequence[int]], filler: int, *, left: bool = False) -> Any:
    import torch

    longest = max(len(row) for row in rows)
    gaps = [[filler] * (longest - len(row)) for row in rows]
    return torch.tensor([[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, gaps, strict=True)])
