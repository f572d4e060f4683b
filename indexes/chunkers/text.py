"""Documents → chunks: the strategy that the spec names cuts every section."""

from collections.abc import Callable, Iterator
from functools import lru_cache

from indexes.chunkers.document import BySection
from indexes.chunkers.fixed import Fixed
from indexes.chunkers.parent_child import ParentChild
from indexes.chunkers.port import CountTokens, Piece, Span, SpanCount, Strategy
from indexes.chunkers.recursive import Recursive
from indexes.chunkers.semantic import Semantic
from indexes.chunkers.sentence_window import SentenceWindow
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.tables import header_of, pipe_tables
from indexes.chunkers.tokens import span_counter
from indexes.types import Chunk, Document, Embedder
from infra.errors import InputError, SetupError
from infra.store import code_version, value_digest

_STRATEGIES: dict[str, Callable[[ChunkSpec], Strategy]] = {
    "recursive": Recursive,
    "fixed": Fixed,
    "document": BySection,
    "parent-child": ParentChild,
    "sentence-window": SentenceWindow,
}


def open_strategy(spec: ChunkSpec, embedder: Embedder | None = None) -> Strategy:
    """The strategy that a spec names. Raises SetupError when it compares meanings and there is no embedder."""
    if spec.needs_embedder:
        if embedder is None:
            raise SetupError(f"chunking.strategy: {spec.strategy!r} needs an embedder; hand one to chunk_document")
        return Semantic(spec, embedder)
    return _STRATEGIES[spec.strategy](spec)


def chunk_document(
    document: Document, spec: ChunkSpec, count_tokens: CountTokens, embedder: Embedder | None = None
) -> list[Chunk]:
    """Chunks in reading order. `chunk.text == document.text[start:end]`; no chunk, parent or window crosses a section.

    Ids depend on the document's id, the chunk's title, text and parent, the spec and the code: a change elsewhere in
    the document leaves them as they are. Raises InputError for a document without text, SetupError as open_strategy.
    """
    if not document.text.strip():
        raise InputError(f"{document.id}: has no text to chunk")
    strategy = open_strategy(spec, embedder)
    made = _Maker(document, spec)
    for start, end, heading in _sections(document):
        title = f"{document.title} > {heading}" if heading else document.title
        count = span_counter(count_tokens, document.text, start, end)
        for piece in strategy.pieces(document, (start, end), count):
            made.add(title, start, piece, count)
    return made.chunks


class _Maker:
    """Makes chunks of one document out of pieces."""

    def __init__(self, document: Document, spec: ChunkSpec) -> None:
        self.chunks: list[Chunk] = []
        self._document = document
        self._spec = spec.model_dump()
        self._tables = pipe_tables(document.text)
        self._seen: dict[tuple[str, str, str], int] = {}

    def add(self, title: str, section: int, piece: Piece, count: SpanCount) -> None:
        """One more chunk; `section` is where its section starts: a header before it is another section's."""
        start, end, parent = piece
        text, shown = self._document.text[start:end], self._text(parent)
        header = header_of(self._tables, start)
        if header and header[0] < section:
            header = None
        key = title, text, shown
        self._seen[key] = self._seen.get(key, 0) + 1
        parts = [self._document.id, *key, self._seen[key], self._text(header), self._spec, _version()]
        self.chunks.append(
            Chunk(
                id=value_digest(parts)[:32],
                document=self._document.id,
                title=title,
                text=text,
                start=start,
                end=end,
                tokens=count(start, end),
                access=self._document.access,
                date=self._document.date,
                parent_start=parent and parent[0],
                parent_end=parent and parent[1],
                parent_tokens=count(*parent) if parent else None,
                window=shown,
                header_start=header and header[0],
                header_end=header and header[1],
                header=self._text(header),
            )
        )

    def _text(self, span: Span | None) -> str:
        return self._document.text[slice(*span)] if span else ""


@lru_cache(maxsize=1)
def _version() -> str:
    return code_version("indexes/chunkers")


def _sections(document: Document) -> Iterator[tuple[int, int, str]]:
    """(start, end, heading) of every section that holds text."""
    starts = [(0, ""), *document.sections]
    ends = [offset for offset, _ in starts[1:]] + [len(document.text)]
    for (start, heading), end in zip(starts, ends, strict=True):
        if document.text[start:end].strip():
            yield start, end, heading
