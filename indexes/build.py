"""The index as a folder: written so that the same input gives the same bytes, and loaded only if its parts fit."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from indexes.graph import EntityGraph
from indexes.hybrid import HybridRetriever, RetrievalSpec
from indexes.lexical import LexicalIndex
from indexes.rerankers import LateInteraction, Reranker, RerankSpec, open_cross_encoder
from indexes.tokens import tokenwise
from indexes.types import Chunk, Embedder, Vectors
from indexes.vectors.open import new_index, open_index
from indexes.vectors.spec import VectorSpec
from indexes.vectors.stored import VECTORS
from infra.errors import InputError, IntegrityError, PolicyError, SetupError
from infra.settings import Spec
from infra.store import canonical_json, read_lines, write_atomic, write_lines

CHUNKS, LEXICAL, CARD = "chunks.jsonl", "bm25", "index.json"
TOKENS, GRAPH = "tokens", "graph.json"


class IndexSpec(VectorSpec):
    """How vectors are indexed, and what else is kept of the chunks. Their words always are indexed."""

    token_vectors: bool = False
    """Keep a vector of every token as well, for reranking by late interaction: 768 bytes a token with MiniLM."""
    graph: bool = False
    """Keep which chunks name the same things, for pattern graph."""


class IndexCard(Spec):
    """index.json: what an index was made from."""

    embedder: str
    """Version of the embedder."""
    dimension: int
    chunks: int
    documents: int
    spec: IndexSpec


def build_index(
    chunks: Sequence[Chunk],
    vectors: Vectors,
    spec: IndexSpec,
    embedder_version: str,
    folder: Path,
    tokens: Path | None = None,
) -> IndexCard:
    """Write chunks, vectors, vector index, BM25 and card into `folder`; row i everywhere is chunks[i].

    `tokens` is the folder of their token vectors (indexes/tokens.py), where the spec keeps them.

    Raises: InputError when chunks and vectors do not fit together or a chunk id appears twice; PolicyError when there
    are too few vectors for the kind of index.
    """
    if not chunks or vectors.ndim != 2 or len(vectors) != len(chunks):
        raise InputError(f"an index needs one vector a chunk: {len(chunks)} chunks, vectors of shape {vectors.shape}")
    if len({chunk.id for chunk in chunks}) < len(chunks):
        raise InputError("two chunks have the same id: chunk the corpus again")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2):
        raise InputError("the vectors are not of unit length: embed the chunks again")
    folder.mkdir(parents=True, exist_ok=True)
    index = new_index(spec)
    index.build(vectors)
    index.save(folder)
    lexical = LexicalIndex()
    lexical.build([chunk.embedding_text for chunk in chunks])
    lexical.save(folder / LEXICAL)
    if spec.token_vectors:
        assert tokens is not None, "token vectors are made when the chunks are embedded"
        shutil.copytree(tokens, folder / TOKENS)
    if spec.graph:
        EntityGraph.build(chunks).save(folder / GRAPH)
    write_lines(folder / CHUNKS, chunks)
    card = IndexCard(
        embedder=embedder_version,
        dimension=vectors.shape[1],
        chunks=len(chunks),
        documents=len({chunk.document for chunk in chunks}),
        spec=spec,
    )
    write_atomic(folder / CARD, canonical_json(card.model_dump(mode="json")) + "\n")
    return card


def load_index(folder: Path, embedder: Embedder, retrieval: RetrievalSpec | None = None) -> HybridRetriever:
    """The retriever over a built index, in a folder that the artifact store has just checked.

    Raises: SetupError when the embedder is not the one that the index was built with; IntegrityError when files are
    missing or do not belong together.
    """
    card = read_card(folder)
    if card.embedder != embedder.version or card.dimension != embedder.dimension:
        raise SetupError(
            f"{folder}: built with embedder {card.embedder} ({card.dimension} numbers a vector), but this is "
            f"{embedder.version} ({embedder.dimension}): run the index flow again or name the old embedder"
        )
    try:
        chunks = list(read_lines(folder / CHUNKS, Chunk))
    except (OSError, InputError) as error:
        raise IntegrityError(f"{folder / CHUNKS}: missing or damaged; build the index again") from error
    if len(chunks) != card.chunks:
        raise IntegrityError(f"{folder}: holds {len(chunks)} chunks of {card.chunks}; build the index again")
    index = open_index(folder, card.spec)
    if (index.count, index.dimension) != (card.chunks, card.dimension):
        raise IntegrityError(
            f"{folder}: {index.count} vectors of {index.dimension} numbers for {card.chunks} chunks of "
            f"{card.dimension}; build the index again"
        )
    asked = retrieval or RetrievalSpec()
    return HybridRetriever(
        chunks,
        index,
        LexicalIndex.load(folder / LEXICAL),
        embedder,
        asked,
        _reranker(folder, card, embedder, asked.rerank),
        _graph(folder, card, asked),
    )


def _reranker(folder: Path, card: IndexCard, embedder: Embedder, spec: RerankSpec | None) -> Reranker | None:
    if spec is None:
        return None
    if spec.kind == "cross-encoder":
        return open_cross_encoder(spec)
    if not card.spec.token_vectors:
        raise PolicyError(
            "answering.search.rerank: late-interaction needs token vectors, which this index has not; set "
            "index.token_vectors: true and run the index flow again"
        )
    return LateInteraction.open(folder / TOKENS, tokenwise(embedder))


def _graph(folder: Path, card: IndexCard, spec: RetrievalSpec) -> EntityGraph | None:
    if not spec.needs_graph:
        return None
    if not card.spec.graph:
        raise PolicyError(
            "answering.search.pattern: graph needs the graph of the chunks, which this index has not; set "
            "index.graph: true and run the index flow again"
        )
    return EntityGraph.load(folder / GRAPH, spec.graph)


def read_card(folder: Path) -> IndexCard:
    """The card of an index. Raises IntegrityError when there is none."""
    try:
        return IndexCard.model_validate_json((folder / CARD).read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{folder}: not an index (no valid {CARD}); build the index again") from error


def read_vectors(folder: Path) -> Vectors:
    """The stored vectors, shape (chunks, dimension), for drift measures. Raises IntegrityError."""
    try:
        loaded: Vectors = np.load(folder / VECTORS, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{folder / VECTORS}: missing or damaged; build the index again") from error
    return loaded
