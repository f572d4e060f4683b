"""Conditions of a search: each by itself, all together, and before the ranking in every mode."""

import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from indexes.build import IndexSpec, build_index, load_index
from indexes.fake import HashingEmbedder
from indexes.filters import Filters, mask
from indexes.hybrid import HybridRetriever, RetrievalSpec
from indexes.retriever import MODES, Mode
from indexes.types import Chunk

EVERYONE = frozenset({"public"})


def chunk(number: int, document: str, title: str, date: datetime.date | None, access: str = "public") -> Chunk:
    text = f"The standing charge number {number} is {number} euros."
    return Chunk(
        id=f"c{number}", document=document, title=title, text=text, start=0, end=len(text), tokens=9,
        access=(access,), date=date,
    )  # fmt: skip


CHUNKS = [
    chunk(0, "tariffs/2023.md", "Tariff 2023", datetime.date(2023, 4, 1)),
    chunk(1, "tariffs/2024.md", "Tariffs for Gardens", datetime.date(2024, 4, 1)),
    chunk(2, "tariffs/2025.pdf", "Tariff 2025", datetime.date(2025, 4, 1)),
    chunk(3, "notes/garden.md", "Garden notes", None),
    chunk(4, "notes/board.md", "Board notes", datetime.date(2024, 6, 1), "board"),
]


def passing(filters: Filters, access: frozenset[str] = EVERYONE) -> list[int]:
    return mask(CHUNKS, access, filters).nonzero()[0].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, embedder = tmp_path_factory.mktemp("index"), HashingEmbedder()
    vectors = embedder.passages([one.embedding_text for one in CHUNKS])
    build_index(CHUNKS, vectors, IndexSpec(kind="flat"), embedder.version, made)
    return made


def opened(folder: Path, **values: object) -> HybridRetriever:
    return load_index(folder, HashingEmbedder(), RetrievalSpec.model_validate(values))


def test_each_condition() -> None:
    assert passing(Filters()) == [0, 1, 2, 3]
    assert passing(Filters(documents=("tariffs/*",))) == [0, 1, 2]
    assert passing(Filters(documents=("*.pdf", "notes/*"))) == [2, 3]
    assert passing(Filters(since=datetime.date(2024, 4, 1))) == [1, 2]
    assert passing(Filters(until=datetime.date(2024, 4, 1))) == [0, 1]
    assert passing(Filters(title="the garden's price")) == []
    assert passing(Filters(title="garden TARIFF")) == [1]


def test_all_conditions_hold_together_and_open_nothing() -> None:
    year = Filters(since=datetime.date(2024, 1, 1), until=datetime.date(2024, 12, 31))
    assert passing(year) == [1]
    assert passing(year, EVERYONE | {"board"}) == [1, 4]
    assert passing(year.model_copy(update={"documents": ("notes/*",)})) == []


@pytest.mark.parametrize("mode", [*MODES, None])
def test_a_filter_stands_before_the_ranking(folder: Path, mode: Mode | None) -> None:
    found = opened(folder).search("standing charge", EVERYONE, 2, mode, filters=Filters(documents=("*.pdf", "notes/*")))
    assert {passage.chunk.id for passage in found} == {"c2", "c3"}
    assert max(max(passage.ranks.values()) for passage in found) == 2
    assert opened(folder).search("standing charge", EVERYONE, 2, mode, filters=Filters(documents=("board",))) == []


def test_those_of_the_release_and_of_the_request_add_up(folder: Path) -> None:
    retriever = opened(folder, filters={"since": "2024-01-01"})
    assert {one.chunk.id for one in retriever.search("standing charge", EVERYONE, 9)} == {"c1", "c2"}
    asked = Filters(documents=("*.md",))
    assert {one.chunk.id for one in retriever.search("standing charge", EVERYONE, 9, filters=asked)} == {"c1"}


def test_impossible_conditions_are_refused() -> None:
    with pytest.raises(ValidationError, match="is after until"):
        Filters(since=datetime.date(2025, 1, 1), until=datetime.date(2024, 1, 1))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Filters.model_validate({"sql": "1=1"})
