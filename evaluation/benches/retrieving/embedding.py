"""How fast the embedding stage is beside bare sentence-transformers at its best batch size, on the same texts."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from evaluation.benches import BenchRow
from evaluation.benches.retrieving.xquad import read_xquad
from indexes.cache import EmbeddingCache
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder, embed_texts
from indexes.weights import model_folder
from infra.settings import Settings

BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes that the bare library may choose from."""


def embedding_rows(settings: Settings) -> list[BenchRow]:
    """`embedding_ratio` on real paragraphs, with one compute thread. Raises SetupError without the corpus."""
    chunks, _ = read_xquad(settings)
    return [embedding_ratio([chunk.embedding_text for chunk in chunks], EmbedSpec(), settings.policy.parent)]


def embedding_ratio(
    texts: Sequence[str], spec: EmbedSpec, root: Path, repeats: int = 7, batches: Sequence[int] = BATCHES
) -> BenchRow:
    """Texts a second of `embed_texts` into an empty cache against `SentenceTransformer.encode`.

    The library gets the batch size that is fastest in one run over all texts each, loading not counted. Then both run
    alternately; the ratio is the geometric mean over the repeats, with Student's 95 % interval of its logarithm.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    embedder = SentenceTransformerEmbedder(spec, root)
    bare = SentenceTransformer(
        str(model_folder(spec.model, spec.revision, root, "embedding.model")), device=spec.device
    )
    torch.set_num_threads(spec.threads)

    def stage() -> None:
        with tempfile.TemporaryDirectory() as folder:
            embed_texts(texts, embedder, EmbeddingCache(Path(folder) / "vectors"), at_once=spec.at_once)

    def encode(batch: int) -> None:
        bare.encode(list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False)

    encode(1)
    best = min(batches, key=lambda batch: _seconds(lambda: encode(batch)))
    own: list[float] = []
    peer: list[float] = []
    for repeat in range(repeats):
        pair = [(own, stage), (peer, lambda: encode(best))]
        for times, work in pair if repeat % 2 else reversed(pair):
            times.append(_seconds(work))
    logs = np.log(np.array(peer) / np.array(own))
    half = float(stats.t.ppf(0.975, repeats - 1) * logs.std(ddof=1) / math.sqrt(repeats))
    return BenchRow(
        name="embedding_ratio",
        value=len(texts) / float(np.median(own)),
        unit="texts/s",
        peer=f"sentence-transformers encode, batch {best}",
        peer_value=len(texts) / float(np.median(peer)),
        ratio=math.exp(float(logs.mean())),
        low=math.exp(float(logs.mean()) - half),
        high=math.exp(float(logs.mean()) + half),
    )


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
