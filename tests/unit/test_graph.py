"""Entities by form, links by what chunks share, and an access mask that leaves no trace of what it hides."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.entities import Finder, named
from indexes.graph import EntityGraph, GraphSpec
from indexes.types import Chunk
from indexes.vectors.port import Mask
from infra.errors import InputError, IntegrityError

NAMES = ("DMA-17", "Form 12-B", "Bank of Orrin", "Pellam Quay", '"Standing charge"', "VAT", "Sorrel Island")
WORDS = (*NAMES, "standing charge", "pellam quay", "the pump", "40 mm", "is 5 kg", "today.")


def chunks(*texts: str) -> list[Chunk]:
    return [
        Chunk(id=str(row), document=f"d{row}", title="", text=text, start=0, end=len(text), tokens=9)
        for row, text in enumerate(texts)
    ]


def everything(graph: EntityGraph) -> Mask:
    return np.ones(graph.count, np.bool_)


def rarity(seen: int, count: int) -> float:
    return math.log1p((seen - count + 0.5) / (count + 0.5))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Bank of Orrin in Pellam Quay", {"bank of orrin", "pellam quay"}),
        ("Call Pellam Quay Harbour now.", {"call pellam quay harbour", "pellam quay harbour"}),
        ("send Form 12-B for DMA-17, see Table 2", {"form 12 b", "dma 17", "table 2"}),
        ("a pipe of 40mm, 5 kg, 24h, 10 GB and 3 %", set()),
        ("we met in Tarnholt. Boats sail, Merrow too", {"tarnholt", "merrow"}),
        ('the "standing charge" and **Late Fee** but "yes" counts not', {"standing charge", "late fee"}),
        ("VAT, H2O and PM2.5 of COVID-19", {"vat", "h2o", "pm2", "covid 19"}),
        ("The pump. When it stops, it stops.", set()),
        ("the Orrin’s Works’ rules", {"orrin", "works"}),
    ],
)
def test_what_a_text_names(text: str, expected: set[str]) -> None:
    assert {" ".join(entity) for entity in named(text)} == expected


def test_many_words_are_found_in_any_case_and_one_word_only_with_a_capital() -> None:
    finder = Finder([("standing", "charge"), ("may",), ("dma", "17")])
    assert finder.find("A Standing charge in DMA 17") == {("standing", "charge"), ("dma", "17")}
    assert finder.find("it may be. standing  Charge") == {("standing", "charge")}
    assert finder.find("May it be; charge standing") == {("may",)}


def test_links_by_rarity_then_over_a_third_chunk() -> None:
    graph = EntityGraph.build(
        chunks("see Form 12-B", "Form 12-B of DMA-17", "form 12-b", "in DMA-17 too", "nothing here", "of Sorrel Island")
    )
    first, second = rarity(6, 3), 0.5 * rarity(6, 2) / 3
    assert graph.neighbours([0], everything(graph), 9) == [(1, first), (2, first), (3, pytest.approx(second))]
    assert graph.neighbours([0], everything(graph), 1) == [(1, first)]
    assert graph.neighbours([0, 1], everything(graph), 9) == [(3, pytest.approx(rarity(6, 2))), (2, first)]
    assert graph.neighbours([4], everything(graph), 9) == []
    near = EntityGraph.build(chunks("see Form 12-B", "Form 12-B of DMA-17", "in DMA-17"), GraphSpec(hops=1))
    assert [row for row, _ in near.neighbours([0], everything(near), 9)] == [1]


def test_a_name_that_is_everywhere_links_nothing() -> None:
    texts = [f"The pumps of Merrow Works run in DMA-{row // 2}" for row in range(40)]
    graph = EntityGraph.build(chunks(*texts), GraphSpec(max_share=0.1))
    assert [row for row, _ in graph.neighbours([0], everything(graph), 9)] == [1]


def test_a_meeting_in_a_forbidden_chunk_is_no_link() -> None:
    graph = EntityGraph.build(chunks("see Form 12-B", "Form 12-B of DMA-17", "in DMA-17", "form 12-b", "of DMA-17"))
    allowed = everything(graph)
    assert [row for row, _ in graph.neighbours([0], allowed, 9)] == [1, 3, 2, 4]
    allowed[1] = False
    assert [row for row, _ in graph.neighbours([0], allowed, 9)] == [3]
    allowed[0] = False
    assert graph.neighbours([0], allowed, 9) == []


def test_a_name_that_only_a_forbidden_chunk_gives_is_unknown() -> None:
    graph = EntityGraph.build(chunks("pellam quay opens", "at pellam quay", "the mayor of Pellam Quay"))
    allowed = everything(graph)
    assert [row for row, _ in graph.neighbours([0], allowed, 9)] == [1, 2]
    allowed[2] = False
    assert graph.neighbours([0], allowed, 9) == []


@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(" and ".join), min_size=1, max_size=14),
    seen=st.sets(st.integers(0, 13)),
    start=st.lists(st.integers(0, 13), max_size=3),
    hops=st.sampled_from([1, 2]),
)
def test_the_answer_is_that_of_a_graph_without_what_may_not_be_seen(
    texts: Sequence[str], seen: set[int], start: list[int], hops: int
) -> None:
    spec = GraphSpec(hops=hops, max_share=0.5)
    rows = sorted(row for row in seen if row < len(texts))
    given_rows = [row for row in start if row < len(texts)]
    allowed = np.isin(np.arange(len(texts)), rows)
    masked = EntityGraph.build(chunks(*texts), spec).neighbours(given_rows, allowed, 9)
    without = EntityGraph.build(chunks(*(texts[row] for row in rows)), spec)
    among = [rows.index(row) for row in given_rows if row in rows]
    assert masked == [(rows[row], weight) for row, weight in without.neighbours(among, everything(without), 9)]


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    texts = [f"{NAMES[row % 7]} and {NAMES[row * 3 % 7]}" for row in range(9)]
    graph, path = EntityGraph.build(chunks(*texts)), tmp_path / "graph.json"
    graph.save(path)
    data = path.read_bytes()
    loaded = EntityGraph.load(path)
    assert loaded.neighbours([0, 1], everything(graph), 9) == graph.neighbours([0, 1], everything(graph), 9) != []
    loaded.save(path)
    EntityGraph.build(chunks(*texts)).save(tmp_path / "again.json")
    assert path.read_bytes() == data == (tmp_path / "again.json").read_bytes()
    with pytest.raises(InputError, match="a mask of 3 rows for a graph of 9 chunks"):
        loaded.neighbours([0], np.ones(3, np.bool_), 1)


def test_chunks_that_share_nothing(tmp_path: Path) -> None:
    graph = EntityGraph.build(chunks("one", "Two"))
    graph.save(tmp_path / "graph.json")
    assert EntityGraph.load(tmp_path / "graph.json").neighbours([0], np.ones(2, np.bool_), 3) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"chunks":2}', '{"chunks":2,"entities":["a"],"named":[[0]],"occurs":[[0,2]]}',
        '{"chunks":2,"entities":["a"],"named":[[0]],"occurs":[[1,0]]}',
        '{"chunks":2,"entities":["a"],"named":[[]],"occurs":[[0,1]]}',
        '{"chunks":3,"entities":["a"],"named":[[2]],"occurs":[[0,1]]}',
        '{"chunks":2,"entities":["a","a"],"named":[[0],[0]],"occurs":[[0,1],[0,1]]}',
        '{"chunks":2,"entities":["a"],"named":[],"occurs":[[0,1]]}',
    ],
)  # fmt: skip
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match=r"graph\.json: not an entity graph; build the index again"):
        EntityGraph.load(path)
    with pytest.raises(IntegrityError):
        EntityGraph.load(tmp_path / "nothing.json")
