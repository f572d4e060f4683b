"""The index folder: the same bytes for the same input, and nothing loaded that does not fit together."""

import uuid
from pathlib import Path

import numpy as np
import pytest

from indexes.build import IndexSpec, build_index, load_index, read_card, read_vectors
from indexes.fake import HashingEmbedder
from indexes.types import Chunk, Vectors
from infra.errors import InputError, IntegrityError, SetupError
from infra.store import folder_manifest

CHUNKS = [
    Chunk(id=f"c{number}", document=f"d{number // 3}", title="T", text=f"Pump {number}.", start=0, end=9, tokens=2)
    for number in range(30)
]


def vectors_of(embedder: HashingEmbedder) -> Vectors:
    return embedder.passages([chunk.embedding_text for chunk in CHUNKS])


@pytest.fixture(params=["hnsw", "flat"])
def spec(request: pytest.FixtureRequest) -> IndexSpec:
    return IndexSpec(kind=request.param)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, spec: IndexSpec) -> None:
    embedder = HashingEmbedder()
    for name in ("a", "b"):
        build_index(CHUNKS, vectors_of(embedder), spec, embedder.version, tmp_path / name)
    assert folder_manifest("index", tmp_path / "a") == folder_manifest("index", tmp_path / "b")
    build_index(CHUNKS[:-1], vectors_of(embedder)[:-1], spec, embedder.version, tmp_path / "c")
    assert folder_manifest("index", tmp_path / "a") != folder_manifest("index", tmp_path / "c")


def test_what_was_built_is_loaded(tmp_path: Path, spec: IndexSpec) -> None:
    embedder = HashingEmbedder()
    card = build_index(CHUNKS, vectors_of(embedder), spec, embedder.version, tmp_path)
    assert read_card(tmp_path) == card
    assert (card.chunks, card.documents, card.dimension) == (30, 10, 64)
    assert np.array_equal(read_vectors(tmp_path), vectors_of(embedder))
    found = load_index(tmp_path, embedder).search("Pump 17", frozenset({"public"}), 1)
    assert found[0].chunk == CHUNKS[17]


def test_another_embedder_is_refused_with_what_to_do(tmp_path: Path, spec: IndexSpec) -> None:
    embedder = HashingEmbedder()
    build_index(CHUNKS, vectors_of(embedder), spec, embedder.version, tmp_path)
    for other in (HashingEmbedder(version="other"), HashingEmbedder(dimension=32)):
        with pytest.raises(SetupError, match="run the index flow again"):
            load_index(tmp_path, other)


@pytest.mark.parametrize("name", ["index.json", "chunks.jsonl", "hnsw.faiss", f"bm25/{uuid.UUID(int=1).hex}.term"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_missing_and_damaged_parts_are_named(tmp_path: Path, name: str, damage: str) -> None:
    embedder = HashingEmbedder()
    build_index(CHUNKS, vectors_of(embedder), IndexSpec(), embedder.version, tmp_path)
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(b"{damaged")
    with pytest.raises(IntegrityError, match="build the index again"):
        load_index(tmp_path, embedder)


def test_a_shortened_chunk_list_is_noticed(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    build_index(CHUNKS, vectors_of(embedder), IndexSpec(), embedder.version, tmp_path)
    lines = (tmp_path / "chunks.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "chunks.jsonl").write_text("".join(lines[:-1]), "utf-8")
    with pytest.raises(IntegrityError, match="29 chunks of 30"):
        load_index(tmp_path, embedder)


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    vectors = vectors_of(HashingEmbedder())
    with pytest.raises(InputError, match="one vector a chunk"):
        build_index(CHUNKS, vectors[:-1], IndexSpec(), "v", tmp_path)
    with pytest.raises(InputError, match="one vector a chunk"):
        build_index([], vectors[:0], IndexSpec(), "v", tmp_path)
    with pytest.raises(InputError, match="same id"):
        build_index([CHUNKS[0]] * 30, vectors, IndexSpec(), "v", tmp_path)
    with pytest.raises(InputError, match="unit length"):
        build_index(CHUNKS, vectors * 2, IndexSpec(), "v", tmp_path)
    assert not (tmp_path / "index.json").exists()
