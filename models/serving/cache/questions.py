"""Vectors of the kept questions, a table for every scope: one scope's questions are never compared with another's."""

import base64
from typing import NamedTuple

import numpy as np

from indexes.types import Vectors
from models.serving.cache.entries import Place

FIRST_ROWS = 16
"""Rows of a new table; it doubles when full."""


class Near(NamedTuple):
    """A kept question of the same scope and its cosine similarity to the one that is asked."""

    place: Place
    question: str
    similarity: float


def packed(vector: Vectors) -> str:
    """A vector as text: float16 in base64."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def unpacked(text: str) -> Vectors:
    """The vector of `packed`. Raises ValueError for anything else."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)


class _Table:
    """The questions of one scope: row i of `vectors` belongs to `asked[i]`."""

    def __init__(self, dimension: int) -> None:
        self.vectors = np.empty((FIRST_ROWS, dimension), np.float32)
        self.asked: list[tuple[Place, str]] = []
        self.rows: dict[str, int] = {}

    def add(self, place: Place, question: str, vector: Vectors) -> None:
        if len(self.asked) == len(self.vectors):
            self.vectors = np.concatenate([self.vectors, np.empty_like(self.vectors)])
        self.rows[place.name] = len(self.asked)
        self.vectors[len(self.asked)] = vector
        self.asked.append((place, question))

    def remove(self, name: str) -> None:
        """The last row takes the place of the one that goes."""
        row = self.rows.pop(name)
        last = self.asked.pop()
        if row < len(self.asked):
            self.asked[row] = last
            self.vectors[row] = self.vectors[len(self.asked)]
            self.rows[last[0].name] = row


class Questions:
    """Tables by scope."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}

    def add(self, place: Place, question: str, packed_vector: str) -> None:
        """Take a question in, where it has a vector; one that is there already is replaced.

        Raises: ValueError for what is no vector.
        """
        self.remove(place)
        if not packed_vector:
            return
        vector = unpacked(packed_vector)
        table = self._tables.setdefault(place.scope, _Table(len(vector)))
        if len(vector) == table.vectors.shape[1]:  # another encoder's vectors cannot be compared
            table.add(place, question, vector)

    def remove(self, place: Place) -> None:
        """Forget a question, if it is there."""
        table = self._tables.get(place.scope)
        if table is not None and place.name in table.rows:
            table.remove(place.name)
            if not table.asked:
                del self._tables[place.scope]

    def near(self, scope: str, vector: Vectors, least: float, most: int = 5) -> list[Near]:
        """The `most` similar questions of a scope that are as similar as `least`, most similar first."""
        table = self._tables.get(scope)
        if table is None or len(vector) != table.vectors.shape[1]:
            return []
        similarities = table.vectors[: len(table.asked)] @ vector
        rows = np.flatnonzero(similarities >= least)
        best = rows[np.argsort(-similarities[rows], kind="stable")[:most]]
        return [
            Near(place=table.asked[row][0], question=table.asked[row][1], similarity=float(similarities[row]))
            for row in best
        ]
