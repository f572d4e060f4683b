"""Filters over what a chunk says of itself: which documents, from when, about what; applied before ranking."""

import datetime
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from indexes.lexical import words
from indexes.types import Chunk
from indexes.vectors.port import Mask
from infra.settings import Spec


class Filters(Spec):
    """Conditions that every passage found meets; a field left out asks nothing."""

    documents: tuple[str, ...] = Field((), max_length=100)
    """Shell patterns of document ids, one of which must match: `tariffs/*`, `*.pdf`."""
    since: datetime.date | None = None
    """Oldest date. A passage without a date does not meet it."""
    until: datetime.date | None = None
    """Newest date. A passage without a date does not meet it."""
    title: str = Field("", max_length=300)
    """Words that the title must hold, in any order; case, plurals and stop words do not count."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}")
        return self

    def meets(self, chunk: Chunk) -> bool:
        """Whether a chunk may be found."""
        if self.documents and not any(fnmatchcase(chunk.document, pattern) for pattern in self.documents):
            return False
        if (self.since or self.until) and chunk.date is None:
            return False
        if self.since and chunk.date and chunk.date < self.since:
            return False
        if self.until and chunk.date and chunk.date > self.until:
            return False
        return set(words(self.title)) <= set(words(chunk.title))


def mask(chunks: Sequence[Chunk], access: frozenset[str], filters: Filters | None = None) -> Mask:
    """True for the chunks that one of the labels opens and that meet the filters, shape (chunks,)."""
    return np.fromiter(
        (not access.isdisjoint(chunk.access) and (filters is None or filters.meets(chunk)) for chunk in chunks),
        np.bool_,
        len(chunks),
    )
