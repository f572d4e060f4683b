"""Row of a whole search at 100,000 chunks on one core: embed the question, two lists, fusion, late interaction."""

import math
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from evaluation.benches import BenchRow
from evaluation.benches.retrieving.xquad import read_xquad
from evaluation.intervals import quantile_interval
from indexes.build import IndexSpec, build_index, load_index
from indexes.cache import EmbeddingCache
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder, embed_chunks
from indexes.hybrid import RetrievalSpec
from indexes.rerankers import RerankSpec
from indexes.tokens import CARD, STARTS, TOKENS, TokenCard, write_token_vectors
from indexes.types import Chunk, Vectors
from infra.settings import Settings
from infra.store import canonical_json, write_atomic

CHUNKS = 100_000
QUESTIONS = 300
_WORDS = 50
"""Words of a chunk: about 64 tokens."""
_SPREAD = 0.6
"""Length of the random vector that is added to a unit vector to make its variants."""
_CHANGED = 0.3
"""Share of the words that a variant takes from elsewhere."""
_ACCESS = frozenset({"public"})


def latency_rows(settings: Settings) -> list[BenchRow]:
    """`retrieve_p50_ms` and the parts of it. The interval is the bootstrap's of the median over the questions.

    The chunks are the pieces of real paragraphs and variants of them: vectors and token vectors moved at random, some
    words taken from other pieces. So lists, masks and MaxSim work on as much as 100,000 different chunks would give.
    """
    paragraphs, cases = read_xquad(settings)
    questions = [case["question"] for case in cases][:: len(cases) // (2 * QUESTIONS)]
    embedder = SentenceTransformerEmbedder(EmbedSpec(threads=1), settings.policy.parent)
    with tempfile.TemporaryDirectory(dir=settings.home) as name:
        place = Path(name)
        real = _pieces(paragraphs)
        cache, kept = EmbeddingCache(settings.home / "embeddings"), EmbeddingCache(settings.home / "token-vectors")
        write_token_vectors(place / "real", real, embedder, kept, cache)
        vectors, _, _ = embed_chunks(real, embedder, cache)
        rng = np.random.default_rng(1)
        source = rng.integers(len(real), size=CHUNKS)
        chunks = _variants(real, source, rng)
        _write_variants(place / "real", place / "tokens", source, embedder.version, rng)
        spec = IndexSpec(token_vectors=True)
        build_index(chunks, _moved(vectors[source], rng), spec, embedder.version, place / "index", place / "tokens")
        del chunks
        retriever = load_index(place / "index", embedder, RetrievalSpec(rerank=RerankSpec(kind="late-interaction")))
        warm, asked, embedded = questions[:20], questions[20:QUESTIONS], questions[QUESTIONS:]
        with threadpool_limits(1):
            for question in warm:
                retriever.search(question, _ACCESS, 8)
            whole = _times(lambda question: retriever.search(question, _ACCESS, 8), asked)
            embedding = _times(embedder.query_tokens, embedded)
    return [_row("retrieve_p50_ms", whole), _row("retrieve: embedding the question, P50", embedding)]


def _row(name: str, times: NDArray[np.float64]) -> BenchRow:
    found = quantile_interval(times, 0.5)
    return BenchRow(
        name=name, value=round(found.mean, 3), unit="ms", low=round(found.low, 3), high=round(found.high, 3)
    )


def _times(ask: Callable[[str], object], questions: Sequence[str]) -> NDArray[np.float64]:
    """Milliseconds of each question, one after the other."""
    times = np.empty(len(questions))
    for number, question in enumerate(questions):
        begun = time.perf_counter()
        ask(question)
        times[number] = (time.perf_counter() - begun) * 1000
    return times


def _pieces(paragraphs: Sequence[Chunk]) -> list[Chunk]:
    """The paragraphs cut into pieces of `_WORDS` words."""
    pieces = []
    for paragraph in paragraphs:
        spans = [match.span() for match in re.finditer(r"\S+", paragraph.text)]
        for number, first in enumerate(range(0, len(spans), _WORDS)):
            start, end = spans[first][0], spans[min(first + _WORDS, len(spans)) - 1][1]
            changed = {"id": f"{paragraph.id}/{number}", "text": paragraph.text[start:end], "start": start, "end": end}
            pieces.append(paragraph.model_copy(update=changed))
    return pieces


def _variants(real: Sequence[Chunk], source: NDArray[np.int64], rng: np.random.Generator) -> list[Chunk]:
    """A chunk for every row of `source`, with `_CHANGED` of its words taken from anywhere."""
    words = [word for chunk in real for word in chunk.text.split()]
    chunks = []
    for row, number in enumerate(source.tolist()):
        own = real[number].text.split()
        fresh = rng.integers(len(words), size=len(own)).tolist()
        changed = rng.random(len(own)) < _CHANGED
        text = " ".join(words[new] if swap else word for word, new, swap in zip(own, fresh, changed, strict=True))
        chunks.append(real[number].model_copy(update={"id": f"v{row}", "text": text, "start": 0, "end": len(text)}))
    return chunks


def _moved(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """Unit vectors of shape (n, dimension), each moved by a random vector of length about `_SPREAD`."""
    noise = rng.standard_normal(vectors.shape, np.float32) * (_SPREAD / math.sqrt(vectors.shape[1]))
    moved = vectors + noise
    unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _write_variants(
    real: Path, folder: Path, source: NDArray[np.int64], embedder: str, rng: np.random.Generator
) -> None:
    """Token vectors of the variants, in the form that `write_token_vectors` gives those of real chunks."""
    tokens, starts = np.load(real / TOKENS, mmap_mode="r"), np.load(real / STARTS)
    lengths = starts[source + 1] - starts[source]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    folder.mkdir()
    shape = (int(ends[-1]), tokens.shape[1])
    written = np.lib.format.open_memmap(folder / TOKENS, mode="w+", dtype=np.float16, shape=shape)
    for row, number in enumerate(source.tolist()):
        own = np.asarray(tokens[starts[number] : starts[number + 1]], np.float32)
        written[ends[row] : ends[row + 1]] = _moved(own, rng)
    written.flush()
    np.save(folder / STARTS, ends, allow_pickle=False)
    card = TokenCard(embedder=embedder, dimension=tokens.shape[1], chunks=len(source))
    write_atomic(folder / CARD, canonical_json(card.model_dump()) + "\n")
