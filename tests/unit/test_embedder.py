"""Only new texts are embedded, whatever happens to the cache; the embedded encoder is the official one."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from indexes.cache import EmbeddingCache
from indexes.embedder import (
    EmbedSpec,
    SentenceTransformerEmbedder,
    embed_chunks,
)
from indexes.fake import HashingEmbedder
from indexes.types import Chunk
from indexes.weights import embedded_model, verified_weights
from infra.errors import InputError, IntegrityError, SetupError


def chunk(number: int, text: str) -> Chunk:
    return Chunk(id=f"c{number}", document="a.md", title="T", text=text, start=0, end=len(text), tokens=3)


CHUNKS = [chunk(number, f"Pump number {number} stands in zone {number % 7}.") for number in range(100)]


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "state" / "embeddings")


def test_unchanged_chunks_are_not_embedded_again(cache: EmbeddingCache) -> None:
    embedder = HashingEmbedder()
    seen: list[tuple[int, int]] = []
    first, computed, total = embed_chunks(CHUNKS, embedder, cache, lambda done, all_: seen.append((done, all_)))
    assert (computed, total, embedder.embedded) == (100, 100, 100)
    assert seen[0] == (0, 100)
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)
    changed = [*CHUNKS[:40], chunk(40, "Something new."), *CHUNKS[41:]]
    second, computed, total = embed_chunks(changed, embedder, cache)
    assert (computed, total, embedder.embedded) == (1, 100, 101)
    assert np.array_equal(np.delete(first, 40, 0), np.delete(second, 40, 0))
    assert np.allclose(np.linalg.norm(second, axis=1), 1, atol=1e-6)
    assert embed_chunks(changed, embedder, cache)[1] == 0


def test_rows_follow_the_chunks_and_equal_texts_are_embedded_once(cache: EmbeddingCache) -> None:
    embedder = HashingEmbedder()
    twice = [CHUNKS[3], CHUNKS[1], CHUNKS[3].model_copy(update={"id": "other"})]
    vectors, computed, total = embed_chunks(twice, embedder, cache)
    assert (computed, total, embedder.embedded) == (3, 3, 2)
    assert np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(vectors[1], embedder.query(CHUNKS[1].embedding_text))


def test_another_version_takes_nothing_from_the_cache(cache: EmbeddingCache) -> None:
    embed_chunks(CHUNKS, HashingEmbedder(), cache)
    assert embed_chunks(CHUNKS, HashingEmbedder(version="hashing-2"), cache)[1] == 100


def test_a_killed_run_goes_on_where_it_was_and_ends_in_the_same_vectors(cache: EmbeddingCache, tmp_path: Path) -> None:
    whole = embed_chunks(CHUNKS, HashingEmbedder(), EmbeddingCache(tmp_path / "other"))[0]

    def stop(done: int, _: int) -> None:
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_chunks(CHUNKS, HashingEmbedder(), cache, stop)
    resumed, computed, _ = embed_chunks(CHUNKS, HashingEmbedder(), cache)
    assert 0 < computed < 50
    assert np.array_equal(resumed, whole)


def test_damaged_rows_and_files_are_recomputed(cache: EmbeddingCache) -> None:
    embedder = HashingEmbedder()
    good = embed_chunks(CHUNKS, embedder, cache)[0]
    with sqlite3.connect(cache.file) as connection:
        connection.execute("UPDATE kept SET value = zeroblob(256) WHERE key < 'hashing-1/8'")
    connection.close()
    again, computed, _ = embed_chunks(CHUNKS, embedder, cache)
    assert 0 < computed < 100
    assert np.array_equal(good, again)
    for suffix in ("-wal", "-shm"):
        cache.file.with_name(cache.file.name + suffix).unlink(missing_ok=True)
    cache.file.write_bytes(b"this is no database" * 100)
    again, computed, _ = embed_chunks(CHUNKS, embedder, cache)
    assert computed == 100
    assert np.array_equal(good, again)
    assert embed_chunks(CHUNKS, embedder, cache)[1] == 0


def test_swapped_vectors_are_seen(cache: EmbeddingCache) -> None:
    embed_chunks(CHUNKS[:2], HashingEmbedder(), cache)
    with sqlite3.connect(cache.file) as connection:
        rows = connection.execute("SELECT key, value, checksum FROM kept ORDER BY key").fetchall()
        for (text, _, _), (_, vector, checksum) in zip(rows, reversed(rows), strict=True):
            connection.execute("UPDATE kept SET value = ?, checksum = ? WHERE key = ?", (vector, checksum, text))
    connection.close()
    assert embed_chunks(CHUNKS[:2], HashingEmbedder(), cache)[1] == 2


def test_two_processes_worth_of_connections_share_the_file(cache: EmbeddingCache) -> None:
    embed_chunks(CHUNKS[:50], HashingEmbedder(), cache)
    other = EmbeddingCache(cache.file)
    assert embed_chunks(CHUNKS, HashingEmbedder(), other)[1] == 50
    assert embed_chunks(CHUNKS, HashingEmbedder(), cache)[1] == 0


def test_only_the_official_weights_are_taken(tmp_path: Path) -> None:
    assert verified_weights(embedded_model()) == embedded_model()
    with pytest.raises(SetupError, match="missing"):
        verified_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(IntegrityError, match="official"):
        verified_weights(tmp_path)


def test_models_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(SetupError, match="no safetensors"):
        SentenceTransformerEmbedder(EmbedSpec(model="pickled"), tmp_path)
    with pytest.raises(InputError, match="neither a folder nor a Hugging Face id"):
        SentenceTransformerEmbedder(EmbedSpec(model="not/a/model/id"), tmp_path)


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(EmbedSpec(), Path())


def test_minilm_puts_a_question_beside_its_answer(minilm: SentenceTransformerEmbedder) -> None:
    texts = [
        "The standing charge is 6.40 euros a month.",
        "Herons nest on the island.",
        "Boil the water for one minute.",
    ]
    scores = minilm.passages(texts) @ minilm.query("What does the tariff cost each month?")
    assert minilm.dimension == 384
    assert int(np.argmax(scores)) == 0


def test_a_vector_does_not_depend_on_its_neighbours(minilm: SentenceTransformerEmbedder) -> None:
    texts = [f"Sentence {'and more ' * (number % 5)}number {number}." for number in range(12)]
    together = minilm.passages(texts)
    assert np.array_equal(together[::-1], minilm.passages(texts[::-1]))
    assert np.array_equal(together[5], minilm.passages(texts[5:6])[0])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_the_version_follows_what_shapes_vectors(minilm: SentenceTransformerEmbedder) -> None:
    assert SentenceTransformerEmbedder(EmbedSpec(threads=2), Path()).version == minilm.version
    assert SentenceTransformerEmbedder(EmbedSpec(query_prompt="query: "), Path()).version != minilm.version
