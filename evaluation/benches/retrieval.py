"""Bench: recall and MRR of dense, BM25 and hybrid retrieval on real paragraphs, beside the bare libraries."""

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
from indexes.retriever import MODES
from indexes.types import Chunk, Embedder, Vectors
from infra.errors import SetupError
from infra.settings import Settings

_DEPTH = 10
_ACCESS = frozenset({"public"})
_PEERS = {"dense": "faiss flat", "lexical": "bm25s", "hybrid": "bm25s"}
_METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    **{f"R@{k}": lambda ranked, relevant, k=k: recall_at_k(ranked, relevant, k) for k in CUTS},  # type: ignore[misc]
    "MRR@10": reciprocal_rank,
}

Rankings = list[list[str]]


def run(settings: Settings) -> list[BenchRow]:
    """Rows for every mode and metric. A paragraph is the unit: chunk and relevant item.

    Intervals: ratio to the peer on the same questions, articles as clusters (Fieller). Raises SetupError without the
    corpus.
    """
    folder = settings.corpora / "xquad-en"
    if not (folder / "cases.jsonl").is_file():
        raise SetupError(f"{folder}: the corpus is not there; set SLUICE_CORPORA to the folder that holds xquad-en")
    chunks = _paragraphs(folder / "documents.jsonl")
    cases = [json.loads(line) for line in (folder / "cases.jsonl").read_text("utf-8").splitlines()]
    relevant = [[f"{case['document']}/{case['paragraph']}"] for case in cases]
    clusters = np.unique([case["document"] for case in cases], return_inverse=True)[1]
    found = _rankings(chunks, [case["question"] for case in cases], settings)
    return [
        _row(mode, metric, found[mode], found[_PEERS[mode]], relevant, clusters)
        for mode in MODES
        for metric in _METRICS
    ]


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


class _Asked:
    """Embedder that embeds every question of the bench once."""

    def __init__(self, embedder: Embedder, questions: Sequence[str]) -> None:
        self.version, self.dimension = embedder.version, embedder.dimension
        self.passages = embedder.passages
        self._vectors = {question: embedder.query(question) for question in questions}

    def query(self, text: str) -> Vectors:
        return self._vectors[text]


def _rankings(chunks: list[Chunk], questions: list[str], settings: Settings) -> dict[str, Rankings]:
    """Ranked paragraph ids of every question, by mode and by peer."""
    embedder = SentenceTransformerEmbedder(EmbedSpec(threads=settings.threads), settings.policy.parent)
    asked = _Asked(embedder, questions)
    cache = EmbeddingCache(settings.home / "cache" / "embeddings.sqlite")
    vectors, _, _ = embed_chunks(chunks, embedder, cache)
    with tempfile.TemporaryDirectory() as name:
        build_index(chunks, vectors, IndexSpec(), embedder.version, Path(name))
        retriever = load_index(Path(name), asked)
        found = {
            mode: [
                [passage.chunk.id for passage in retriever.search(question, _ACCESS, _DEPTH, mode)]
                for question in questions
            ]
            for mode in MODES
        }
    bare_dense = _bare_faiss(chunks, vectors, np.stack([asked.query(question) for question in questions]))
    return found | {"faiss flat": bare_dense, "bm25s": _bare_bm25(chunks, questions)}


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
    mode: str,
    metric: str,
    found: Rankings,
    peer: Rankings,
    relevant: list[list[str]],
    clusters: NDArray[np.int64],
) -> BenchRow:
    measure = _METRICS[metric]
    own = np.array([measure(ranked, wanted) for ranked, wanted in zip(found, relevant, strict=True)])
    other = np.array([measure(ranked, wanted) for ranked, wanted in zip(peer, relevant, strict=True)])
    ratio = ratio_interval(own, other, clusters)
    return BenchRow(
        name=f"xquad-en {mode} {metric}",
        value=round(float(own.mean()), 4),
        unit="share",
        peer=_PEERS[mode],
        peer_value=round(float(other.mean()), 4),
        ratio=round(ratio.mean, 4),
        low=round(ratio.low, 4),
        high=round(ratio.high, 4),
    )
