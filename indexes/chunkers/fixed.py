"""Fixed-size chunks: windows of words as long as the budget allows, each repeating the end of the one before it.

Windows end at words; code, table rows, list items, rules and definitions that fit the budget are never cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from indexes.chunkers.packing import pack
from indexes.chunkers.port import Piece, Span, SpanCount
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.units import words
from indexes.types import Document


@dataclass(frozen=True)
class Fixed:
    """Strategy `fixed`."""

    spec: ChunkSpec

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterator[Piece]:
        """See Strategy."""
        budget = self.spec.max_tokens
        units = list(words(document.text, section, budget, count))
        return (Piece(*span) for span in pack(units, budget, self.spec.overlap_tokens, count))
