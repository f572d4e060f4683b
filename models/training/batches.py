"""What the trainer sees: rows that fit as tokens and labels, in a fixed order, and proof that answers are learnt."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.errors import InputError
from models.training.rows import PreferenceRow, TrainingRow

IGNORED = -100
"""Label of a token that carries no loss."""


class Encoded(NamedTuple):
    """A row as tokens; a label is the token itself or IGNORED."""

    ids: list[int]
    labels: list[int]


class Coder:
    """A base's tokenizer as training needs it: with a token to pad with, and a template that marks the answers."""

    def __init__(self, base_folder: Path) -> None:
        from transformers import AutoTokenizer

        self.folder = base_folder
        self.notes: list[str] = []
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)
        if self.tokenizer.eos_token is None:
            raise InputError(
                f"{base_folder}: its tokenizer has no end token (eos_token); name one in its configuration"
            )
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
            self.notes.append(f"the tokenizer has no padding token: {self.tokenizer.eos_token} stands in for it")
        self._template: str | None = None

    def encode(self, row: TrainingRow) -> Encoded:
        """Tokens of a row; in a chat only the answers and their end are learnt, in a text all of it.

        Raises: InputError for a template that is missing or marks something else than the answers.
        """
        if row.is_text:
            return self._text(row.messages[0].content)
        chat = [message.model_dump() for message in row.messages]
        made = self.tokenizer.apply_chat_template(
            chat, chat_template=self._marked(), return_dict=True, return_assistant_tokens_mask=True
        )
        ids, marks = list(made["input_ids"]), list(made["assistant_masks"])
        labels = [token if mark else IGNORED for token, mark in zip(ids, marks, strict=True)]
        self._check(row, ids, labels)
        return Encoded(ids, labels)

    def encode_pair(self, pair: PreferenceRow) -> tuple[list[int], list[int], list[int]]:
        """Tokens of prompt, chosen and rejected answer with their ends: the answers begin where the two chats part.

        Raises: InputError for a template that is missing.
        """
        if not self.tokenizer.chat_template:
            raise InputError(f"{self.folder}: its tokenizer has no chat template; preferences need one")
        prompt = [message.model_dump() for message in pair.prompt]
        start = list(self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False))
        answers = []
        for text in (pair.chosen, pair.rejected):
            chat = [*prompt, {"role": "assistant", "content": text}]
            answers.append(list(self.tokenizer.apply_chat_template(chat, return_dict=False)))
        shared = min(_common(start, answer) for answer in answers)
        return start[:shared], answers[0][shared:], answers[1][shared:]

    def _text(self, text: str) -> Encoded:
        ids = list(self.tokenizer(text)["input_ids"])
        if ids[-1:] != [self.tokenizer.eos_token_id]:
            ids.append(self.tokenizer.eos_token_id)
        return Encoded(ids, list(ids))

    def _marked(self) -> str:
        """The chat template with marks around the answers: its own, or trl's marked version of a known one."""
        from trl.chat_template_utils import get_training_chat_template, has_generation_markers

        if self._template is not None:
            return self._template
        own = self.tokenizer.chat_template
        if not own:
            raise InputError(f"{self.folder}: its tokenizer has no chat template; fine-tuning needs one")
        if has_generation_markers(own):
            self._template = str(own)
            return self._template
        try:
            self._template = str(get_training_chat_template(self.tokenizer))
        except ValueError as error:
            raise InputError(
                f"{self.folder}: its chat template does not mark the answers; put {{% generation %}} and"
                " {% endgeneration %} around an assistant's content"
            ) from error
        self.notes.append("the chat template marks no answers: trl's marked version of it was trained on")
        return self._template

    def _check(self, row: TrainingRow, ids: Sequence[int], labels: Sequence[int]) -> None:
        """Raise InputError unless the tokens with a loss are the answers and their end, and nothing else."""
        learnt = [self.tokenizer.decode(run, skip_special_tokens=True).strip() for run in _runs(ids, labels)]
        answers = [message.content.strip() for message in row.messages if message.role == "assistant"]
        if learnt != answers:
            raise InputError(f"{row.source}: the chat template marks {learnt} for learning, not the answers {answers}")


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


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


def fitting(coder: Coder, rows: Sequence[TrainingRow], max_length: int) -> list[Encoded]:
    """The rows that are no longer than `max_length`. Raises InputError where none is left."""
    encoded = [coder.encode(row) for row in rows]
    kept = [row for row in encoded if len(row.ids) <= max_length]
    if rows and not kept:
        raise InputError(
            f"training: all {len(rows)} rows are longer than max_length {max_length} (the shortest has"
            f" {min(len(row.ids) for row in encoded)} tokens); raise training.max_length or show fewer passages"
        )
    return kept


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


def packs(lengths: Sequence[int], epochs: int, max_length: int, seed: int) -> list[list[int]]:
    """Rows laid end to end: each pack holds indices whose lengths sum to at most `max_length`.

    Every epoch has each row once: longest first, each into the fullest pack that has room, then the packs shuffled.
    """
    rng = random.Random(seed)  # noqa: S311 - shuffling, nothing secret
    made: list[list[int]] = []
    for _ in range(epochs):
        epoch: list[list[int]] = []
        room: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            fits = [place for place, left in enumerate(room) if left >= lengths[index]]
            place = min(fits, key=lambda place: room[place], default=len(epoch))
            if place == len(epoch):
                epoch.append([])
                room.append(max_length)
            epoch[place].append(index)
            room[place] -= lengths[index]
        rng.shuffle(epoch)
        made += epoch
    return made


def examples(rows: Sequence[Encoded], order: Sequence[Sequence[int]], *, packed: bool) -> list[dict[str, list[int]]]:
    """The trainer's examples: `order` names the rows of each, one unless `packed`."""
    made = []
    for group in order:
        example = {
            "input_ids": [token for index in group for token in rows[index].ids],
            "labels": [label for index in group for label in rows[index].labels],
        }
        made.append(example | ({"seq_lengths": [len(rows[index].ids) for index in group]} if packed else {}))
    return made
