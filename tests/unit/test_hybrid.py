"""Fusion by its formula, and an access filter that no way of searching gets around."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from indexes.build import IndexSpec, build_index, load_index
from indexes.fake import HashingEmbedder
from indexes.hybrid import HybridRetriever, RetrievalSpec, fuse
from indexes.retriever import MODES, Mode
from indexes.types import Chunk
from infra.errors import InputError

SECRET = "The vault code of the Stonebeck tower is 4711 tango."
LABELS = [("public",), ("staff",), ("staff", "board"), ("board",)]


def corpus(count: int) -> list[Chunk]:
    """Chunks about pumps under every label; number 1 (staff) and 3 (board) hold the same secret."""
    texts = [f"Pump {number} of the tower runs at {number * 7 % 90} bar." for number in range(count)]
    texts[1] = texts[3] = SECRET
    return [
        Chunk(
            id=f"c{number}",
            document=f"d{number}",
            title="Works",
            text=text,
            start=0,
            end=len(text),
            tokens=9,
            access=LABELS[number % 4],
        )
        for number, text in enumerate(texts)
    ]


def retriever(folder: Path, kind: str, count: int = 40, **values: object) -> HybridRetriever:
    chunks, embedder = corpus(count), HashingEmbedder()
    vectors = embedder.passages([chunk.embedding_text for chunk in chunks])
    build_index(chunks, vectors, IndexSpec.model_validate({"kind": kind}), embedder.version, folder)
    return load_index(folder, embedder, RetrievalSpec.model_validate(values))


@pytest.fixture(scope="module", params=["flat", "hnsw"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HybridRetriever:
    return retriever(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> HybridRetriever:
    """Large enough that HNSW walks its graph."""
    return retriever(tmp_path_factory.mktemp("large"), "hnsw", 9000)


def may_see(chunk: Chunk, access: frozenset[str]) -> bool:
    return not access.isdisjoint(chunk.access)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("question", [SECRET, "vault code 4711", "tango", f"Works: {SECRET}", "what is the vault code"])
def test_a_forbidden_chunk_cannot_be_reached(index: HybridRetriever, mode: Mode, question: str) -> None:
    for size in range(3):
        for labels in itertools.combinations(["public", "board", "guest", "staff "], size):
            access = frozenset(labels)
            for k in (1, 5, 500):
                found = index.search(question, access, k, mode)
                assert all(may_see(passage.chunk, access) for passage in found)
                assert "c1" not in {passage.chunk.id for passage in found}
                if "board" not in access:
                    assert SECRET not in {passage.chunk.text for passage in found}


@pytest.mark.parametrize("mode", MODES)
def test_a_forbidden_chunk_cannot_be_reached_through_the_graph(large: HybridRetriever, mode: Mode) -> None:
    found = large.search(SECRET, frozenset({"public"}), 50, mode)
    assert found
    assert all(passage.chunk.access == ("public",) for passage in found)


@pytest.mark.parametrize("mode", MODES)
def test_who_may_see_it_finds_it_first(index: HybridRetriever, mode: Mode) -> None:
    assert index.search("vault code 4711", frozenset({"staff"}), 3, mode)[0].chunk.id == "c1"
    assert index.search("vault code 4711", frozenset({"board"}), 3, mode)[0].chunk.id == "c3"
    both = index.search("vault code 4711", frozenset({"staff", "board"}), 3, mode)
    assert {passage.chunk.id for passage in both[:2]} == {"c1", "c3"}


@pytest.mark.parametrize("mode", MODES)
def test_the_filter_stands_before_the_ranking(index: HybridRetriever, mode: Mode) -> None:
    """Places of forbidden chunks are not left empty: the list equals that of an index without them."""
    access = frozenset({"public"})
    found = index.search("pump of the tower", access, 10, mode)
    assert len(found) == 10
    assert max(max(passage.ranks.values()) for passage in found) <= 10


def test_no_label_sees_nothing(index: HybridRetriever) -> None:
    assert all(index.search("pump", frozenset(), 5, mode) == [] for mode in MODES)


def test_scores_and_ranks_are_those_of_the_mode(index: HybridRetriever) -> None:
    access = index.labels
    for mode in ("dense", "lexical"):
        found = index.search("pump 12 bar", access, 6, mode)
        assert [passage.ranks for passage in found] == [{mode: rank} for rank in range(1, len(found) + 1)]
        assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)
    for passage in index.search("pump 12 bar", access, 6):
        expected = sum(1 / (60 + rank) for rank in passage.ranks.values())
        assert passage.score == pytest.approx(expected)


def test_weights_move_the_fused_list(tmp_path: Path) -> None:
    only_words = retriever(tmp_path, "flat", dense_weight=0.0)
    question, access = "tower 35 bar", only_words.labels
    lexical = [passage.chunk.id for passage in only_words.search(question, access, 5, "lexical")]
    assert [passage.chunk.id for passage in only_words.search(question, access, 5, "hybrid")] == lexical


@settings(max_examples=100, deadline=None)
@given(st.permutations(list(range(8))), st.permutations(list(range(8))), st.integers(1, 100))
def test_fusion_is_the_sum_of_reciprocal_ranks(first: list[int], second: list[int], rrf_k: int) -> None:
    fused = fuse({"a": first[:5], "b": second[:5]}, {"a": 1.0, "b": 2.0}, rrf_k)
    assert {row for row, _ in fused} == {*first[:5], *second[:5]}
    for row, score in fused:
        parts = [1 / (rrf_k + first.index(row) + 1)] if row in first[:5] else []
        parts += [2 / (rrf_k + second.index(row) + 1)] if row in second[:5] else []
        assert score == pytest.approx(sum(parts))
    assert np.all(np.diff([score for _, score in fused]) <= 0)


def test_bad_questions_modes_and_specs_are_refused(index: HybridRetriever) -> None:
    with pytest.raises(InputError, match="empty"):
        index.search("  ", frozenset({"public"}), 3)
    with pytest.raises(InputError, match="dense, lexical, hybrid"):
        index.search("pump", frozenset({"public"}), 3, "magic")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="above 0"):
        RetrievalSpec(dense_weight=0, lexical_weight=0)
