"""Parent and child chunks: small pieces are embedded and matched, the larger piece around them is shown."""

from collections.abc import Iterator
from dataclasses import dataclass

from indexes.chunkers.port import Piece, Span, SpanCount
from indexes.chunkers.recursive import recursive_spans
from indexes.chunkers.spec import ChunkSpec
from indexes.types import Document


@dataclass(frozen=True)
class ParentChild:
    """Strategy `parent-child`. Parents do not overlap; a parent that is no larger than a child is one chunk."""

    spec: ChunkSpec

    def pieces(self, document: Document, section: Span, count: SpanCount) -> Iterator[Piece]:
        """See Strategy."""
        spec = self.spec
        for parent in recursive_spans(document.text, section, spec.max_tokens, 0, count):
            for child in recursive_spans(document.text, parent, spec.child_tokens, spec.overlap_tokens, count):
                yield Piece(*child, parent=parent if parent != child else None)
