"""Token vectors are those of the sentence vectors' forward passes, stored as they were made; MaxSim ranks by them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.cache import EmbeddingCache
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder, embed_chunks
from indexes.fake import HashingEmbedder
from indexes.rerankers import LateInteraction
from indexes.tokens import CARD, STARTS, TOKENS, TokenVectors, write_token_vectors
from indexes.types import Chunk
from infra.errors import IntegrityError, SetupError

ANSWER = "The inspection of the chlorine pump falls due every ninety days."
TEXTS = [
    "Herons nest on the island in the reservoir.",
    ANSWER,
    "",
    *(f"The {place} pump number {number} was painted." for number, place in enumerate(["north", "south", "old"] * 12)),
]


def chunk(number: int, text: str) -> Chunk:
    return Chunk(id=f"c{number}", document="a.md", title="", text=text, start=0, end=len(text), tokens=3)


CHUNKS = [chunk(number, text) for number, text in enumerate(TEXTS)]


class Caches:
    """The two caches of one state folder."""

    def __init__(self, folder: Path) -> None:
        self.tokens, self.vectors = EmbeddingCache(folder / "tokens"), EmbeddingCache(folder / "vectors")


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(EmbedSpec(), Path())


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def stored(minilm: SentenceTransformerEmbedder, state: Path) -> Path:
    """Folder with the token vectors of CHUNKS."""
    caches = Caches(state)
    assert write_token_vectors(state / "whole", CHUNKS, minilm, caches.tokens, caches.vectors) == (39, 39)
    return state / "whole"


def test_sentence_vectors_are_the_library_s_to_the_bit(minilm: SentenceTransformerEmbedder) -> None:
    vectors, tokens = minilm.passages_with_tokens(TEXTS[:4])
    encoded: Any = minilm._model.encode(TEXTS[:4], batch_size=1, normalize_embeddings=True, show_progress_bar=False)
    assert np.array_equal(vectors, encoded)
    assert np.array_equal(vectors, minilm.passages(TEXTS[:4]))
    assert all(np.allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5) for table in tokens)


def test_the_marks_around_a_text_have_no_vector_unless_there_is_nothing_else(
    minilm: SentenceTransformerEmbedder,
) -> None:
    tokens = minilm.passages_with_tokens(["pump", "the old pump", ""])[1]
    assert [len(table) for table in tokens] == [1, 3, 2]


def test_padding_has_no_vector() -> None:
    wide = SentenceTransformerEmbedder(EmbedSpec(batch_size=3), Path())
    tokens = wide.passages_with_tokens(["the old pump", "", "pump"])[1]
    assert [len(table) for table in tokens] == [3, 2, 1]


def test_a_question_s_vector_and_its_token_vectors_come_of_one_forward_pass(
    minilm: SentenceTransformerEmbedder,
) -> None:
    passes = []
    handle = minilm._model.register_forward_hook(lambda *_: passes.append(1))
    try:
        tokens = minilm.query_tokens("When is the old pump inspected?")
        vector = minilm.query("When is the old pump inspected?")
    finally:
        handle.remove()
    assert len(passes) == 1
    assert tokens.shape == (7, 384)
    assert np.array_equal(vector, minilm.passages(["When is the old pump inspected?"])[0])


def test_the_file_holds_every_chunk_s_tokens_in_half_precision(
    minilm: SentenceTransformerEmbedder, stored: Path
) -> None:
    made = minilm.passages_with_tokens(TEXTS)[1]
    tokens, starts = np.load(stored / TOKENS), np.load(stored / STARTS)
    assert tokens.dtype == np.float16
    assert np.array_equal(np.diff(starts), [len(table) for table in made])
    assert np.array_equal(tokens, np.concatenate(made).astype(np.float16))


def test_nothing_is_computed_twice(minilm: SentenceTransformerEmbedder, stored: Path, state: Path) -> None:
    caches = Caches(state)
    vectors, computed, _ = embed_chunks(CHUNKS, minilm, caches.vectors)
    assert computed == 0
    assert np.array_equal(vectors[1], minilm.passages([ANSWER])[0])
    changed = [*CHUNKS, chunk(99, "A new valve.")]
    assert write_token_vectors(state / "changed", changed, minilm, caches.tokens, caches.vectors) == (1, 40)


def test_a_killed_run_goes_on_where_it_was_and_ends_in_the_same_bytes(
    minilm: SentenceTransformerEmbedder, stored: Path, tmp_path: Path
) -> None:
    caches = Caches(tmp_path)

    def stop(done: int, total: int) -> None:
        if done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_token_vectors(tmp_path / "killed", CHUNKS, minilm, caches.tokens, caches.vectors, stop)
    with pytest.raises(IntegrityError, match="missing or damaged"):
        TokenVectors.open(tmp_path / "killed", minilm)
    assert write_token_vectors(tmp_path / "again", CHUNKS, minilm, caches.tokens, caches.vectors) == (7, 39)
    for name in (TOKENS, STARTS, CARD):
        assert (tmp_path / "again" / name).read_bytes() == (stored / name).read_bytes()


def test_max_sim_is_the_mean_over_the_question_of_the_best_inner_products(
    minilm: SentenceTransformerEmbedder, stored: Path
) -> None:
    opened = TokenVectors.open(stored, minilm)
    question = minilm.query_tokens("Which pump is due for inspection?")
    made = minilm.passages_with_tokens(TEXTS)[1]
    rows = [5, 1, 2, *range(10, 30), 0]
    expected = [(question @ made[row].T).max(axis=1).mean() for row in rows]
    assert opened.count == 39
    assert np.allclose(opened.max_sim(question, rows), expected, atol=1e-3)
    assert opened.max_sim(question, []).shape == (0,)


def test_late_interaction_puts_the_answering_passage_first(minilm: SentenceTransformerEmbedder, stored: Path) -> None:
    reranker = LateInteraction.open(stored, minilm)
    rows = [4, 0, 1, 7]
    scores = reranker.scores("How often is the chlorine pump inspected?", rows, [TEXTS[row] for row in rows])
    assert rows[int(np.argmax(scores))] == 1
    assert reranker.version != minilm.version


def test_token_vectors_that_do_not_fit_are_not_opened(
    minilm: SentenceTransformerEmbedder, stored: Path, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="name the old embedder"):
        TokenVectors.open(stored, HashingEmbedder(384))
    for name in (CARD, TOKENS):
        (tmp_path / name).write_bytes((stored / name).read_bytes())
    np.save(tmp_path / STARTS, np.load(stored / STARTS)[:-1])
    with pytest.raises(IntegrityError, match="do not belong"):
        TokenVectors.open(tmp_path, minilm)
