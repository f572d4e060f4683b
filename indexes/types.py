"""Documents, chunks, passages and the ports of retrieval."""

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

    @property
    def embedding_text(self) -> str:
        """What is embedded and matched: title and text."""
        return f"{self.title}: {self.text}" if self.title else self.text


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


class Retriever(Protocol):
    """Port: question → passages the caller may see. `mode` is dense, lexical or hybrid."""

    def search(self, question: str, access: frozenset[str], k: int, mode: str = "hybrid") -> list[Passage]: ...
