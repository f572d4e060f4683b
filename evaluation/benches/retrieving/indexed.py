"""The policy's corpus, indexed for a bench as often as it is cut; vectors are kept between benches."""

from collections.abc import Mapping
from pathlib import Path

from indexes.build import IndexSpec, build_index
from indexes.cache import EmbeddingCache
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder, embed_chunks
from indexes.loaders.corpus import load_corpus
from indexes.loaders.spec import CorpusSpec
from infra.settings import Policy, Settings
from infra.store import value_digest
from models.answering.context import TokenCount


class BenchIndexes:
    """Indexes of one corpus by the spec of its chunks, in a folder of the bench."""

    def __init__(self, settings: Settings, policy: Policy, count: TokenCount, home: Path) -> None:
        self.count = count
        self._home = home
        self._chunking = policy.section("chunking", ChunkSpec)
        self._documents = load_corpus(policy.section("corpus", CorpusSpec), policy.path.parent).documents
        self._embedding = policy.section("embedding", EmbedSpec).model_copy(update={"threads": settings.threads})
        self._root = policy.path.parent
        self.embedder = self.open_embedder()
        """The policy's encoder."""
        self._cache = EmbeddingCache(settings.home / "embeddings")

    def built(self, cut: Mapping[str, str | int]) -> Path:
        """The folder of the index over chunks whose spec differs by `cut` from the policy's."""
        spec = ChunkSpec.model_validate(self._chunking.model_dump() | dict(cut))
        folder = self._home / value_digest(spec.model_dump(mode="json"))
        if not folder.is_dir():
            chunks = [chunk for one in self._documents for chunk in chunk_document(one, spec, self.count)]
            vectors, _, _ = embed_chunks(chunks, self.embedder, self._cache)
            build_index(chunks, vectors, IndexSpec(kind="flat", graph=True), self.embedder.version, folder)
        return folder

    def open_embedder(self) -> SentenceTransformerEmbedder:
        """Another encoder of the policy's: one that has not been asked for anything."""
        return SentenceTransformerEmbedder(self._embedding, self._root)
