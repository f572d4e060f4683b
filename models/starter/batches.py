"""Training batches: generated conversations sorted by length, of about equal token counts, made in a second process."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.starter import facts, reading, values
from models.starter.tokenizer import encode, encode_messages

LONGEST = 1024
POOL = 256
QUOTING_SHARE = 0.06
Row = tuple[list[int], list[bool]]
Batch = tuple[NDArray[np.int64], NDArray[np.bool_]]


def drill_share(progress: float) -> float:
    """Share of drills among the rows: most at the start, until copying has formed, then a few."""
    return 0.75 if progress < 0.02 else 0.02


def repeated(rng: Random, vocabulary: int) -> Row:
    """A random token string that repeats: only copying predicts the repetition (teaches induction)."""
    string = [rng.randrange(6, vocabulary) for _ in range(rng.randint(4, 40))]
    count = rng.randint(2, 4)
    return [1, *string * count], [False] * (1 + len(string)) + [True] * (len(string) * (count - 1))


def recall(rng: Random, tokenizer: Tokenizer) -> Row:
    """Names with values, then the same pairs in another order: the value is predicted from its name's first mention."""
    pairs = [
        (facts.entity(rng).name, values.draw(rng.choice(list(values.KINDS)), rng)) for _ in range(rng.randint(2, 8))
    ]
    ids, marks = [1], [False]
    for again in (False, True):
        rng.shuffle(pairs)
        for name, value in pairs:
            for text, part in ((name, "name"), (value, "value")):
                piece = tokenizer.encode(text).ids + ([2] if part == "value" else [5])
                ids += piece
                marks += [again and part == "value"] * len(piece)
    return ids, marks


def quoting(rng: Random, tokenizer: Tokenizer) -> Row:
    """A page, then random pieces of it each with its passage number; only the numbers count (teaches citing)."""
    page = reading.example(rng.getrandbits(60), turns=1)
    system, user, *_ = page.messages()
    user["content"] = f"{reading.render(page.passages)}\n\nQuestion: Where is it said?"
    ids, marks = encode_messages(tokenizer, [system, user])
    ids, marks = [*ids, 5], [*marks, False]
    for _ in range(rng.randint(6, 14)):
        number = rng.randrange(len(page.passages))
        words = page.passages[number].split()
        start = rng.randrange(len(words))
        piece = " ".join(words[start : start + rng.randint(2, 5)]).strip(".,;:|")
        text = tokenizer.encode(f"{piece} [{number + 1}];").ids
        ids += text
        marks += [False] * (len(text) - 2) + [True, False]
    return [*ids, 2], [*marks, False]


def pad(rows: list[Row]) -> Batch:
    """Right-padded ids and answer marks [rows, length], the length a multiple of 8."""
    length = -(-max(len(ids) for ids, _ in rows) // 8) * 8
    ids = np.zeros((len(rows), length), np.int64)
    marks = np.zeros((len(rows), length), np.bool_)
    for row, (tokens, answer) in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        marks[row, : len(answer)] = answer
    return ids, marks


def stream(tokenizer: Tokenizer, seed: int, progress: Synchronized[float] | None, tokens: int) -> Iterator[Batch]:
    """Endless batches of about `tokens` tokens; `progress` (0..1) sets the curriculum."""
    rng = Random(seed)  # noqa: S311 - generated tasks, no secret
    while True:
        done = progress.value if progress is not None else 1.0
        rows = []
        for _ in range(POOL):
            if rng.random() < drill_share(done):
                rows.append(repeated(rng, tokenizer.get_vocab_size()) if rng.random() < 0.6 else recall(rng, tokenizer))
                continue
            if rng.random() < QUOTING_SHARE:
                rows.append(quoting(rng, tokenizer))
                continue
            made = encode(tokenizer, reading.example(rng.getrandbits(60)))
            if len(made[0]) <= LONGEST:
                rows.append(made)
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[Row]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row[0]) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (pad(group) for group in groups if group)


def _work(folder: str, seed: int, progress: Synchronized[float], tokens: int, queue: Any) -> None:
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    for batch in stream(tokenizer, seed, progress, tokens):
        queue.put(batch)


def background(folder: Path, seed: int, tokens: int) -> tuple[Iterator[Batch], Synchronized[float]]:
    """The stream from a second process, and the value through which the trainer tells its progress."""
    context = mp.get_context("spawn")
    progress: Synchronized[float] = context.Value("d", 0.0)
    queue: Any = context.Queue(maxsize=24)
    context.Process(target=_work, args=(str(folder), seed, progress, tokens, queue), daemon=True).start()
    return iter(queue.get, None), progress
