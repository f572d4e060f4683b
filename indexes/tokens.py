"""Token vectors of chunks, stored in half precision for late interaction, and MaxSim over them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from indexes.cache import EmbeddingCache
from indexes.types import Chunk, Embedder, Vectors
from infra.errors import IntegrityError, SetupError
from infra.settings import Spec
from infra.store import canonical_json, text_digest, write_atomic

TOKENS, STARTS, CARD = "tokens.npy", "token_starts.npy", "tokens.json"

_AT_ONCE = 32
"""Chunks between two writes: what a killed run loses at most, and what is held in memory."""

_AT_A_TIME = 8
"""Chunks whose token vectors go through one matrix product: more of them no longer fit the processor's cache."""

Halves = NDArray[np.float16]
"""Shape (tokens, dimension), unit length."""


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """Port: an embedder that also gives the vectors of a text's tokens, each text at least one."""

    def passages_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[Vectors]]: ...

    def query_tokens(self, text: str) -> Vectors: ...


def tokenwise(embedder: Embedder) -> TokenEmbedder:
    """The embedder, if it gives token vectors. Raises SetupError for one that does not."""
    if not isinstance(embedder, TokenEmbedder):
        raise SetupError(
            f"embedding: {type(embedder).__name__} gives no token vectors; set index.token_vectors: false and rerank "
            "with a cross-encoder, or embed with a model in this process"
        )
    return embedder


class TokenCard(Spec):
    """tokens.json: what token vectors were made from."""

    embedder: str
    """Version of the embedder."""
    dimension: int
    chunks: int


def write_token_vectors(
    folder: Path,
    chunks: Sequence[Chunk],
    embedder: TokenEmbedder,
    cache: EmbeddingCache,
    vectors: EmbeddingCache,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Write the token vectors of every chunk into `folder`, in their order; how many were computed, and how many are.

    Token vectors that were computed before come from `cache`; new ones are kept in it as they are made, and in
    `vectors` the sentence vectors of the same forward passes, so that embedding the same chunks afterwards computes
    nothing. Holds 32 chunks in memory. `progress(done, total)` counts chunks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts, computed = np.zeros(len(chunks) + 1, np.int64), 0
    with (folder / TOKENS).open("wb") as stream:
        _write_header(stream, 0, embedder.dimension)
        for first in range(0, len(chunks), _AT_ONCE):
            texts = [chunk.embedding_text for chunk in chunks[first : first + _AT_ONCE]]
            tables, fresh = _tables(texts, embedder, cache, vectors)
            for row, table in enumerate(tables, first):
                stream.write(table.tobytes())
                starts[row + 1] = starts[row] + len(table)
            computed += fresh
            progress(first + len(texts), len(chunks))
        stream.seek(0)
        _write_header(stream, int(starts[-1]), embedder.dimension)
    np.save(folder / STARTS, starts, allow_pickle=False)
    card = TokenCard(embedder=embedder.version, dimension=embedder.dimension, chunks=len(chunks))
    write_atomic(folder / CARD, canonical_json(card.model_dump()) + "\n")
    return computed, len(chunks)


def _write_header(stream: BinaryIO, tokens: int, dimension: int) -> None:
    """The header of an .npy file; numpy leaves room in it, so that a greater number of rows takes no more bytes."""
    header = {"descr": "<f2", "fortran_order": False, "shape": (tokens, dimension)}
    np.lib.format.write_array_header_1_0(stream, header)


def _tables(
    texts: Sequence[str], embedder: TokenEmbedder, cache: EmbeddingCache, vectors: EmbeddingCache
) -> tuple[list[Halves], int]:
    """Token vectors of each text, and of how many texts they had to be computed."""
    digests = [text_digest(text) for text in texts]
    blobs = cache.blobs(embedder.version, digests)
    missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in blobs}
    fresh = sum(digest in missing for digest in digests)
    if missing:
        sentences, tables = embedder.passages_with_tokens(list(missing.values()))
        made = {digest: table.astype("<f2").tobytes() for digest, table in zip(missing, tables, strict=True)}
        vectors.write(embedder.version, dict(zip(missing, sentences, strict=True)))
        cache.keep(embedder.version, made)
        blobs |= made
    return [np.frombuffer(blobs[digest], "<f2").reshape(-1, embedder.dimension) for digest in digests], fresh


class TokenVectors:
    """Stored token vectors, mapped into memory: rows of chunk i are `tokens[starts[i]:starts[i + 1]]`."""

    def __init__(self, tokens: Halves, starts: NDArray[np.int64]) -> None:
        self._tokens = tokens
        self._starts = starts

    @classmethod
    def open(cls, folder: Path, embedder: Embedder) -> "TokenVectors":
        """The token vectors in `folder`, which the artifact store has just checked.

        Raises: SetupError when another embedder made them; IntegrityError when files are missing or do not fit.
        """
        try:
            card = TokenCard.model_validate_json((folder / CARD).read_text("utf-8"))
            tokens = np.load(folder / TOKENS, mmap_mode="r", allow_pickle=False)
            starts = np.load(folder / STARTS, allow_pickle=False)
        except (OSError, ValueError, ValidationError) as error:
            raise IntegrityError(f"{folder}: token vectors are missing or damaged; run the index flow again") from error
        if card.embedder != embedder.version:
            raise SetupError(
                f"{folder}: token vectors of embedder {card.embedder}, but this is {embedder.version}: run the index "
                "flow again or name the old embedder"
            )
        if starts.shape != (card.chunks + 1,) or tokens.shape != (starts[-1], card.dimension):
            raise IntegrityError(
                f"{folder}: token vectors of shape {tokens.shape} for {card.chunks} chunks do not belong to their "
                "starts; run the index flow again"
            )
        return cls(tokens, starts)

    @property
    def count(self) -> int:
        """Chunks that have token vectors."""
        return len(self._starts) - 1

    def max_sim(self, question: Vectors, rows: Sequence[int]) -> NDArray[np.float32]:
        """MaxSim of a question's token vectors, shape (tokens, dimension), with the chunks `rows`: one score a chunk.

        For every token of the question the best inner product with a token of the chunk (ColBERT: Khattab and Zaharia
        2020), here averaged over the question's tokens, so that scores lie between -1 and 1.
        """
        parts = [self._best(question, rows[i : i + _AT_A_TIME]) for i in range(0, len(rows), _AT_A_TIME)]
        return np.concatenate(parts).mean(axis=1) if parts else np.empty(0, np.float32)

    def _best(self, question: Vectors, rows: Sequence[int]) -> Vectors:
        """Best inner product of each token of the question with each chunk, shape (chunks, tokens of the question)."""
        import torch

        spans = [(int(self._starts[row]), int(self._starts[row + 1])) for row in rows]
        gathered = np.concatenate([self._tokens[start:end] for start, end in spans])
        single = torch.from_numpy(gathered).float().numpy()  # numpy's own conversion takes eight times as long
        similar = single @ question.T
        lengths = np.array([end - start for start, end in spans])
        best: Vectors = np.maximum.reduceat(similar, np.cumsum(lengths) - lengths, axis=0)
        return best
