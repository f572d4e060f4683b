"""Documents, chunks, passages and the port of embedders."""

import datetime
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Vectors = NDArray[np.float32]
"""Shape (n, dimension), unit length."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Document(_Frozen):
    """One loaded document. `id` is stable over versions (path or `source#table/key`); `digest` is of its bytes."""

    id: str
    title: str
    text: str
    media: str
    """Format name: markdown, html, pdf, docx, pptx, xlsx, csv, text, jsonl, sql."""
    digest: str
    date: datetime.date | None = None
    access: tuple[str, ...] = ("public",)
    language: str = "en"
    supersedes: str | None = None
    sections: tuple[tuple[int, str], ...] = ()
    """(offset in text, heading path) of each section start, ascending."""


class Quarantined(_Frozen):
    """A document that could not be used, with the reason and what to do."""

    id: str
    reason: str


class Chunk(_Frozen):
    """A piece of a document: `text` is exactly `document.text[start:end]`; `id` is a digest of content and place."""

    id: str
    document: str
    title: str
    """Document title and section heading, as shown before the passage."""
    text: str
    start: int
    end: int
    tokens: int
    access: tuple[str, ...] = ("public",)
    date: datetime.date | None = None
    parent_start: int | None = None
    """Where the parent or window begins that is shown in the chunk's place; None = the chunk itself is shown."""
    parent_end: int | None = None
    parent_tokens: int | None = None
    window: str = ""
    """Text of the parent or window, exactly `document.text[parent_start:parent_end]`."""
    header_start: int | None = None
    """Where the header stands of the table that the chunk begins inside of; None = it begins inside of none."""
    header_end: int | None = None
    header: str = ""
    """Names of the table's columns, exactly `document.text[header_start:header_end]`."""

    @property
    def embedding_text(self) -> str:
        """What is embedded and matched: title, the header of a table that was cut, and text."""
        text = f"{self.header}\n{self.text}" if self.header else self.text
        return f"{self.title}: {text}" if self.title else text

    def shown(self) -> "Chunk":
        """The chunk as a reader gets it: the text of its parent or window, below the header of a table that was cut.

        Its `start` and `end` are then the parent's; `parent_start` and `parent_end` stay, `window` and `header` are
        empty. A chunk without either is itself.
        """
        if self.parent_start is None and not self.header:
            return self
        start = self.start if self.parent_start is None else self.parent_start
        text = self.window or self.text
        if self.header_end is not None and self.header_end <= start:
            text = f"{self.header}\n{text}"
        place = {} if self.parent_start is None else {"start": start, "end": self.parent_end}
        tokens = {} if self.parent_tokens is None else {"tokens": self.parent_tokens}
        return self.model_copy(update={"text": text, "window": "", "header": "", **place, **tokens})

    def shows(self, other: "Chunk") -> bool:
        """Whether the text of `other` stands in this chunk's parent or window."""
        return (
            self.parent_start is not None
            and self.parent_end is not None
            and self.document == other.document
            and self.parent_start <= other.start
            and other.end <= self.parent_end
        )


class Passage(_Frozen):
    """A chunk found for a question, with its fused score (higher is better) and its rank in each list."""

    chunk: Chunk
    score: float
    ranks: dict[str, int] = Field(default_factory=dict)


class Embedder(Protocol):
    """Port: text → unit vectors. `version` changes whenever the vectors would."""

    version: str
    dimension: int

    def passages(self, texts: Sequence[str]) -> Vectors: ...

    def query(self, text: str) -> Vectors: ...
