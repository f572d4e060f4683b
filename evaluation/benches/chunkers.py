"""Bench: every chunking strategy on the sample's documents: how fast, and what comes out."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.benches import BenchRow
from indexes.cache import EmbeddingCache
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.chunkers.tokens import token_counter
from indexes.embedder import CachedEmbedder, EmbedSpec, open_embedder
from indexes.loaders.corpus import load_corpus
from indexes.loaders.spec import CorpusSpec
from indexes.types import Chunk, Document
from infra.settings import Policy, Settings
from models.base import policy_model

_TIMES = 5
_STRATEGIES: tuple[dict[str, object], ...] = (
    {"strategy": "recursive"},
    {"strategy": "fixed"},
    {"strategy": "document"},
    {"strategy": "semantic"},
    {"strategy": "parent-child", "child_tokens": 40},
    {"strategy": "sentence-window"},
)
_PEER = "recursive"


def run(settings: Settings) -> list[BenchRow]:
    """MB/s beside the recursive strategy, chunks and their mean tokens, with the policy's other chunking fields.

    Token counts are warm, and so are the vectors that `semantic` compares (its first time is that of embedding every
    sentence). Intervals: the slowest and the fastest of five repetitions.
    """
    policy = Policy(settings.policy)
    documents = load_corpus(policy.section("corpus", CorpusSpec), policy.path.parent).documents
    base = policy.section("chunking", ChunkSpec)
    count = token_counter(policy_model(policy))
    size = sum(len(document.text.encode()) for document in documents) / 1e6
    rows: list[BenchRow] = []
    speeds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        embedder = CachedEmbedder(open_embedder(EmbedSpec()), EmbeddingCache(Path(name) / "embeddings"))
        for changes in _STRATEGIES:
            spec = ChunkSpec.model_validate({**base.model_dump(), **changes})

            def cut(spec: ChunkSpec = spec) -> list[Chunk]:
                return [chunk for one in documents for chunk in chunk_document(one, spec, count, embedder)]

            chunks = cut()
            rates = sorted(size / _seconds(cut) for _ in range(_TIMES))
            speeds[spec.strategy] = float(np.median(rates))
            rows += [_speed(spec.strategy, rates, speeds), *_shape(spec.strategy, chunks, documents)]
    return rows


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _speed(strategy: str, rates: list[float], speeds: dict[str, float]) -> BenchRow:
    own, peer = speeds[strategy], speeds[_PEER]
    if strategy == _PEER:
        return BenchRow(name=strategy, value=own, unit="MB/s", low=rates[0], high=rates[-1])
    low, high = rates[0] / peer, rates[-1] / peer
    return BenchRow(
        name=strategy, value=own, unit="MB/s", peer=_PEER, peer_value=peer, ratio=own / peer, low=low, high=high
    )


def _shape(strategy: str, chunks: list[Chunk], documents: list[Document]) -> list[BenchRow]:
    tokens = float(np.mean([chunk.tokens for chunk in chunks]))
    return [
        BenchRow(name=f"{strategy}: chunks of {len(documents)} documents", value=len(chunks), unit="chunks"),
        BenchRow(name=f"{strategy}: mean length", value=tokens, unit="tokens"),
    ]
