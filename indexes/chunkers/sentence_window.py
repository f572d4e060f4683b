"""Sentence windows: one sentence a chunk is embedded and matched, and is shown with its neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

from indexes.chunkers.port import Piece, Span, SpanCount
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.units import sentences
from indexes.types import Document


@dataclass(frozen=True)
class SentenceWindow:
    """Strategy `sentence-window`. A table row, list item, rule, definition or code block counts as one sentence."""

    spec: ChunkSpec

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterator[Piece]:
        """See Strategy."""
        units = list(sentences(document.text, section, self.spec.max_tokens, count))
        for place, unit in enumerate(units):
            window = self._window(units, place, count)
            yield Piece(*unit, parent=window if window != unit else None)

    def _window(self, units: list[Span], place: int, count: SpanCount) -> Span:
        """The unit with as many neighbours on either side as spec and budget allow, the next ones first."""
        low = high = place
        for _ in range(self.spec.window_sentences):
            if low > 0 and count(units[low - 1][0], units[high][1]) <= self.spec.max_tokens:
                low -= 1
            if high + 1 < len(units) and count(units[low][0], units[high + 1][1]) <= self.spec.max_tokens:
                high += 1
        return units[low][0], units[high][1]
