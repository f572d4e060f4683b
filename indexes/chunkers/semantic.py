"""Semantic chunks: a section is cut where the meaning of neighbouring sentences changes most.

The distance of two neighbours is 1 - cosine of their embeddings; a cut is made where it is above a percentile of the
section's own distances (G. Kamradt, 5 Levels of Text Splitting, 2023). No other section takes part, so a change
elsewhere moves no cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from indexes.chunkers.packing import pack
from indexes.chunkers.port import Piece, Span, SpanCount
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.units import sentences
from indexes.types import Document, Embedder


@dataclass(frozen=True)
class Semantic:
    """Strategy `semantic`. What lies between two cuts is packed up to the budget."""

    spec: ChunkSpec
    embedder: Embedder

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterator[Piece]:
        """See Strategy."""
        units = list(sentences(document.text, section, self.spec.max_tokens, count))
        for group in self._groups(document.text, units):
            for span in pack(group, self.spec.max_tokens, 0, count):
                yield Piece(*span)

    def _groups(self, text: str, units: list[Span]) -> Iterator[list[Span]]:
        """Neighbouring units without a cut between them."""
        if len(units) < 3:  # a single distance is its own percentile
            yield units
            return
        vectors = self.embedder.passages([text[start:end] for start, end in units])
        distances = 1.0 - np.sum(vectors[:-1] * vectors[1:], axis=1, dtype=np.float64)
        # "higher" cuts (100 - p) % of the distances, so a short section is not cut for having a largest one.
        limit = np.percentile(distances, self.spec.breakpoint_percentile, method="higher")
        begin = 0
        for place in (np.flatnonzero(distances > limit) + 1).tolist():
            yield units[begin:place]
            begin = place
        yield units[begin:]
