"""Document chunks: one a section or page; a longer section becomes as few parts as needed, of about equal size."""

from collections.abc import Iterator
from dataclasses import dataclass

from indexes.chunkers.packing import pack
from indexes.chunkers.port import Piece, Span, SpanCount
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.units import trim, units
from indexes.types import Document


@dataclass(frozen=True)
class BySection:
    """Strategy `document`."""

    spec: ChunkSpec

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterator[Piece]:
        """See Strategy."""
        start, end = trim(document.text, *section)
        if count(start, end) <= self.spec.max_tokens:
            yield Piece(start, end)
            return
        found = list(units(document.text, (start, end), self.spec.max_tokens, count))
        for span in _even(found, self.spec.max_tokens, count):
            yield Piece(*span)


def _even(units: list[Span], budget: int, count: SpanCount) -> list[Span]:
    """The units packed by the smallest budget that needs no more parts than the whole budget does."""
    best = list(pack(units, budget, 0, count))
    low, high = max(count(*unit) for unit in units), budget
    while low < high:
        middle = (low + high) // 2
        tried = list(pack(units, middle, 0, count))
        if len(tried) == len(best):
            best, high = tried, middle
        else:
            low = middle + 1
    return best
