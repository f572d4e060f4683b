"""Recursive chunks: section → block → part → line → sentence → halves, packed up to a token budget.

A unit is split only if it alone exceeds the budget, so table rows, code and numbered rules stay whole where they can.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from indexes.chunkers.packing import pack
from indexes.chunkers.port import Piece, Span, SpanCount
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.units import units
from indexes.types import Document


def recursive_spans(text: str, span: Span, budget: int, overlap: int, count: SpanCount) -> Iterator[Span]:
    """Spans of at most `budget` tokens that are cut at the largest units that fit."""
    return pack(list(units(text, span, budget, count)), budget, overlap, count)


@dataclass(frozen=True)
class Recursive:
    """Strategy `recursive`."""

    spec: ChunkSpec

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterator[Piece]:
        """See Strategy."""
        spans = recursive_spans(document.text, section, self.spec.max_tokens, self.spec.overlap_tokens, count)
        return (Piece(*span) for span in spans)
