"""The policy's corpus, indexed for a bench as often as it is cut; vectors are kept between benches."""

from collections.abc import Mapping
from pathlib import Path

from indexes.build import IndexSpec, build_index, load_index
from indexes.cache import EmbeddingCache
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder, embed_chunks
from indexes.hybrid import HybridRetriever, RetrievalSpec
from indexes.loaders.corpus import load_corpus
from indexes.loaders.spec import CorpusSpec
from infra.settings import Policy, Settings
from models.answering.context import TokenCount


class BenchIndexes:
    """Indexes of one corpus by the strategy of its chunks, in a folder of the bench."""

    def __init__(self, settings: Settings, policy: Policy, count: TokenCount, home: Path) -> None:
        self.count = count
        self._home = home
        self._chunking = policy.section("chunking", ChunkSpec)
        self._documents = load_corpus(policy.section("corpus", CorpusSpec), policy.path.parent).documents
        self._embedding = policy.section("embedding", EmbedSpec).model_copy(update={"threads": settings.threads})
        self._root = policy.path.parent
        self._embedder = self.open_embedder()
        self._cache = EmbeddingCache(settings.home / "embeddings")

    def built(self, cut: Mapping[str, str | int]) -> Path:
        """The folder of the index over chunks whose spec differs by `cut` from the policy's."""
        spec = ChunkSpec.model_validate(self._chunking.model_dump() | dict(cut))
        folder = self._home / spec.strategy
        if not folder.is_dir():
            chunks = [chunk for one in self._documents for chunk in chunk_document(one, spec, self.count)]
            vectors, _, _ = embed_chunks(chunks, self._embedder, self._cache)
            build_index(chunks, vectors, IndexSpec(kind="flat", graph=True), self._embedder.version, folder)
        return folder

    def open(self, folder: Path, spec: RetrievalSpec) -> HybridRetriever:
        """A retriever with an encoder of its own: the vectors that another one has cached save it nothing."""
        return load_index(folder, self.open_embedder(), spec)

    def open_embedder(self) -> SentenceTransformerEmbedder:
        """The policy's encoder."""
        return SentenceTransformerEmbedder(self._embedding, self._root)
