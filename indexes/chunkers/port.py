"""Port of the chunking strategies: a document and a section's span → the spans of its chunks."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from indexes.types import Document

Span = tuple[int, int]
"""[start, end) in characters of the document's text."""
CountTokens = Callable[[str], int]
"""Tokens of a text."""
SpanCount = Callable[[int, int], int]
"""Tokens of text[start:end] of one section."""


class Piece(NamedTuple):
    """One chunk to be: the span that is matched, and the larger one around it that is shown (None = itself)."""

    start: int
    end: int
    parent: Span | None = None


class Strategy(Protocol):
    """One way to cut. Pieces lie in the section, in order of their start, and cover all that is not white space."""

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterable[Piece]:
        """The pieces of one section; `count` counts the tokens of its spans."""
        ...
