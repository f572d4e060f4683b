"""Batches of logit distillation: rows as tokens with labels, and the prompt that the student may answer itself."""

import random
from collections.abc import Sequence
from typing import Any

from models.training.batches import IGNORED, Encoded

Example = dict[str, Any]
"""`input_ids`, `labels` (IGNORED where nothing is learnt), and `prompt_length`: tokens before one of the replies."""


def examples(rows: Sequence[Encoded], order: Sequence[Sequence[int]], seed: int) -> list[Example]:
    """The rows in the order they are seen. Which reply of a row is asked for is drawn here, once."""
    rng = random.Random(seed)  # noqa: S311 - sampling, nothing secret
    return [
        {"input_ids": row.ids, "labels": row.labels, "prompt_length": rng.choice(_reply_starts(row.labels))}
        for group in order
        for row in (rows[index] for index in group)
    ]


def _reply_starts(labels: Sequence[int]) -> list[int]:
    """Places where a run of learnt tokens begins; the first token of a text, which has nothing before it, is none."""
    return [
        place for place, label in enumerate(labels) if label != IGNORED and place and labels[place - 1] == IGNORED
    ] or [1]


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
