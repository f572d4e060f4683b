"""The stages of ingest and index without an orchestrator: each runs only on what it has not read before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from indexes.build import IndexSpec, build_index
from indexes.cache import ContentCache, EmbeddingCache
from indexes.chunkers.spec import ChunkSpec
from indexes.chunking import chunks_in, write_chunks
from indexes.corpus import documents_in, write_corpus, write_without
from indexes.duplicates import Duplicate, DuplicateSpec, find_duplicates
from indexes.embedder import embed_texts
from indexes.loaders.corpus import open_corpus
from indexes.loaders.spec import CorpusSpec
from indexes.sketches import Sketches
from indexes.types import Embedder
from indexes.validation import ValidationSpec, validate_chunks, validate_documents
from infra.store import (
    ArtifactRef,
    LocalStore,
    folder_manifest,
    read_lines,
    text_digest,
    value_digest,
    write_lines,
)

_VALIDATION = ValidationSpec()


class Chain:
    """One project's documents, caches and artifacts, all below `home`; the documents lie in `home/documents`.

    Every stage calls the function of the domain that its task calls, with the default specs.
    """

    def __init__(self, home: Path, tokenizer: Path, chunking: ChunkSpec) -> None:
        self.home = home
        self.tokenizer = tokenizer
        self.chunking = chunking
        self._store = LocalStore(home / "store")
        self._results: dict[str, ArtifactRef] = {}

    def forget(self) -> None:
        """Forget which stage made what: every stage runs again, over what is kept of single documents."""
        self._results.clear()

    def ingest(self) -> ArtifactRef:
        """Read, drop duplicates, validate, chunk, validate; the chunks."""
        content = value_digest(folder_manifest("source", self.home / "documents"))
        read = self._stage("corpus", [content], self._read)
        corpus = self._without_copies(read)
        self._stage("data-docs", [corpus.digest], lambda folder: self._check_documents(self._open(corpus), folder))
        chunks = self._stage("chunks", [corpus.digest], lambda folder: self._chunk(self._open(corpus), folder))
        self._stage("data-docs", [chunks.digest], lambda folder: self._check_chunks(self._open(chunks), folder))
        return chunks

    def index(self, embedder: Embedder) -> ArtifactRef:
        """Ingest, embed what is new and build the index."""
        chunks = self.ingest()
        vectors = self._stage(
            "vectors", [chunks.digest], lambda folder: self._embed(self._open(chunks), embedder, folder)
        )

        def build(folder: Path) -> None:
            rows = np.load(self._open(vectors) / "vectors.npy", allow_pickle=False)
            build_index(list(chunks_in(self._open(chunks))), rows, IndexSpec(), embedder.version, folder)

        return self._stage("index", [chunks.digest, vectors.digest], build)

    def _stage(self, kind: str, inputs: list[str], write: Callable[[Path], object]) -> ArtifactRef:
        """The artifact, its digest verified; made only if these inputs are new."""
        key = value_digest([kind, inputs])
        if key not in self._results:
            with self._store.writing(kind) as draft:
                write(draft.folder)
            self._results[key] = draft.stored()
        self._open(self._results[key])
        return self._results[key]

    def _open(self, ref: ArtifactRef) -> Path:
        return self._store.open(ref)

    def _cache(self, name: str) -> ContentCache:
        return ContentCache(self.home / "kept" / f"{name}.sqlite")

    def _read(self, folder: Path) -> None:
        with open_corpus(CorpusSpec(documents="documents"), self.home, cache=self._cache("read")) as found:
            write_corpus(found, folder)

    def _without_copies(self, read: ArtifactRef) -> ArtifactRef:
        def find(folder: Path) -> None:
            sketches = Sketches(self._cache("sketches"))
            found = find_duplicates(documents_in(self._open(read)), DuplicateSpec(), sketches)
            write_lines(folder / "duplicates.jsonl", found)

        found = self._stage("duplicates", [read.digest], find)
        rows = read_lines(self._open(found) / "duplicates.jsonl", Duplicate)
        dropped = {row.id for row in rows if row.dropped}
        if not dropped:
            return read
        inputs = [read.digest, found.digest]
        return self._stage("corpus", inputs, lambda folder: write_without(self._open(read), dropped, folder))

    def _check_documents(self, corpus: Path, folder: Path) -> None:
        validate_documents(documents_in(corpus), _VALIDATION, folder)

    def _check_chunks(self, chunks: Path, folder: Path) -> None:
        validate_chunks(chunks_in(chunks), _VALIDATION, folder)

    def _chunk(self, corpus: Path, folder: Path) -> None:
        write_chunks(documents_in(corpus), self.chunking, self.tokenizer, folder, self._cache("chunks"))

    def _embed(self, chunks: Path, embedder: Embedder, folder: Path) -> None:
        texts = [chunk.embedding_text for chunk in chunks_in(chunks)]
        cache = EmbeddingCache(self.home / "embeddings")
        vectors, _, _ = embed_texts(texts, embedder, cache)
        cache.trim(embedder.version, map(text_digest, texts))
        np.save(folder / "vectors.npy", vectors, allow_pickle=False)
