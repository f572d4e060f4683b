"""Rows on XQuAD: dense, BM25, hybrid and reranked retrieval of real paragraphs, beside the bare libraries."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.benches import BenchRow
from evaluation.intervals import ratio_interval
from evaluation.retrieval import CUTS, recall_at_k, reciprocal_rank
from indexes.build import IndexSpec, build_index, load_index
from indexes.cache import EmbeddingCache
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder, embed_chunks
from indexes.hybrid import RetrievalSpec
from indexes.rerankers import RerankSpec
from indexes.retriever import MODES, Mode
from indexes.tokens import write_token_vectors
from indexes.types import Chunk, Vectors
from infra.errors import SetupError
from infra.settings import Settings

_DEPTH = 10
_ACCESS = frozenset({"public"})
_DENSE, _BM25, _RERANKED = "faiss flat", "bm25s", "reranked"
_PEERS = {"dense": _DENSE, "lexical": _BM25, "hybrid": _BM25, _RERANKED: _DENSE}
_RERANK = RerankSpec(kind="late-interaction")
_METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    **{f"R@{k}": lambda ranked, relevant, k=k: recall_at_k(ranked, relevant, k) for k in CUTS},  # type: ignore[misc]
    "MRR@10": reciprocal_rank,
}
_TARGETS = {"R@1": "xquad_r1", "MRR@10": "xquad_mrr"}
"""Rows of the reranked search under names of their own; their peer is the ordinary dense baseline."""

Rankings = list[list[str]]


def xquad_rows(settings: Settings) -> list[BenchRow]:
    """Rows for every way of searching and every metric. A paragraph is the unit: chunk and relevant item.

    Intervals: ratio to the peer on the same questions, articles as clusters (Fieller). Raises SetupError without the
    corpus.
    """
    chunks, cases = read_xquad(settings)
    relevant = [[f"{case['document']}/{case['paragraph']}"] for case in cases]
    clusters = np.unique([case["document"] for case in cases], return_inverse=True)[1]
    found = _rankings(chunks, [case["question"] for case in cases], settings)

    def row(name: str, way: str, metric: str) -> BenchRow:
        return _row(name, metric, found[way], found[_PEERS[way]], _PEERS[way], relevant, clusters)

    plain = [row(f"xquad-en {mode} {metric}", mode, metric) for mode in MODES for metric in _METRICS]
    return [*plain, *(row(name, _RERANKED, metric) for metric, name in _TARGETS.items())]


def read_xquad(settings: Settings) -> tuple[list[Chunk], list[dict[str, str]]]:
    """Paragraphs as chunks, and the questions. Raises SetupError without the corpus."""
    folder = settings.corpora / "xquad-en"
    if not (folder / "cases.jsonl").is_file():
        raise SetupError(f"{folder}: the corpus is not there; set SLUICE_CORPORA to the folder that holds xquad-en")
    cases = [json.loads(line) for line in (folder / "cases.jsonl").read_text("utf-8").splitlines()]
    return _paragraphs(folder / "documents.jsonl"), cases


def _paragraphs(file: Path) -> list[Chunk]:
    chunks = []
    for line in file.read_text("utf-8").splitlines():
        article = json.loads(line)
        title = article["title"].replace("_", " ")
        for number, text in enumerate(article["paragraphs"]):
            identity = f"{article['id']}/{number}"
            chunks.append(
                Chunk(id=identity, document=identity, title=title, text=text, start=0, end=len(text), tokens=0)
            )
    return chunks


def _rankings(chunks: list[Chunk], questions: list[str], settings: Settings) -> dict[str, Rankings]:
    """Ranked paragraph ids of every question, by way of searching and by peer."""
    embedder = SentenceTransformerEmbedder(EmbedSpec(threads=settings.threads), settings.policy.parent)
    cache = EmbeddingCache(settings.home / "embeddings")
    with tempfile.TemporaryDirectory() as name:
        folder, tokens = Path(name) / "index", Path(name) / "tokens"
        write_token_vectors(tokens, chunks, embedder, EmbeddingCache(settings.home / "token-vectors"), cache)
        vectors, _, _ = embed_chunks(chunks, embedder, cache)
        build_index(chunks, vectors, IndexSpec(token_vectors=True), embedder.version, folder, tokens)
        retriever = load_index(folder, embedder, RetrievalSpec(rerank=_RERANK))
        ways: dict[str, Mode | None] = {**{mode: mode for mode in MODES}, _RERANKED: None}
        found: dict[str, Rankings] = {way: [] for way in ways}
        asked = np.empty((len(questions), embedder.dimension), np.float32)
        for number, question in enumerate(questions):
            asked[number] = embedder.query(question)
            for way, mode in ways.items():
                passages = retriever.search(question, _ACCESS, _DEPTH, mode)
                found[way].append([passage.chunk.id for passage in passages])
    return found | {_DENSE: _bare_faiss(chunks, vectors, asked), _BM25: _bare_bm25(chunks, questions)}


def _bare_faiss(chunks: list[Chunk], vectors: Vectors, asked: Vectors) -> Rankings:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    _, rows = index.search(asked, _DEPTH)
    return [[chunks[row].id for row in found] for found in rows.tolist()]


def _bare_bm25(chunks: list[Chunk], questions: list[str]) -> Rankings:
    """bm25s as its own documentation starts: its tokenizer with English stop words, no title handling."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize([chunk.embedding_text for chunk in chunks], show_progress=False), show_progress=False)
    asked = bm25s.tokenize(questions, show_progress=False)
    rows, _ = index.retrieve(asked, k=_DEPTH, show_progress=False)
    return [[chunks[row].id for row in found] for found in rows.tolist()]


def _row(
    name: str,
    metric: str,
    found: Rankings,
    peers: Rankings,
    peer: str,
    relevant: list[list[str]],
    clusters: NDArray[np.int64],
) -> BenchRow:
    measure = _METRICS[metric]
    own = np.array([measure(ranked, wanted) for ranked, wanted in zip(found, relevant, strict=True)])
    other = np.array([measure(ranked, wanted) for ranked, wanted in zip(peers, relevant, strict=True)])
    ratio = ratio_interval(own, other, clusters)
    return BenchRow(
        name=name,
        value=round(float(own.mean()), 4),
        unit="share",
        peer=peer,
        peer_value=round(float(other.mean()), 4),
        ratio=round(ratio.mean, 4),
        low=round(ratio.low, 4),
        high=round(ratio.high, 4),
    )
