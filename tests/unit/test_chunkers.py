"""Chunks are exact slices within the budget, cut at natural places, with ids that a change elsewhere leaves alone."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from indexes.chunkers.sentences import sentence_spans
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.types import Chunk, Document
from infra.errors import InputError


def count_words(text: str) -> int:
    return len(text.split())


def document(text: str, sections: tuple[tuple[int, str], ...] = (), identity: str = "a.md") -> Document:
    return Document(id=identity, title="Alpha", text=text, media="markdown", digest="d", sections=sections)


def chunks(text: str, max_tokens: int = 12, overlap: int = 0, **values: object) -> list[Chunk]:
    spec = ChunkSpec(max_tokens=max_tokens, overlap_tokens=overlap)
    return chunk_document(document(text, **values), spec, count_words)  # type: ignore[arg-type]


SENTENCES = st.lists(
    st.sampled_from(["The pump runs.", "Is it 6.40 euros?", "Water!", "No. 4 of 9 stands idle."]), max_size=9
)
BLOCKS = st.one_of(
    SENTENCES.map(" ".join),
    st.lists(st.text("ab ", min_size=1, max_size=60), min_size=1, max_size=5).map("\n".join),
    st.lists(st.sampled_from(["x = 1", "", "y"]), max_size=9).map(lambda lines: "```\n" + "\n".join(lines) + "\n```"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(BLOCKS, min_size=1, max_size=8), st.integers(8, 40), st.integers(0, 20), st.data())
def test_chunks_are_slices_in_order_within_budget_and_section(
    blocks: list[str], budget: int, overlap: int, data: st.DataObject
) -> None:
    text = "\n\n".join(blocks)
    if not text.strip():
        return
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
    sections = tuple((cut, f"h{cut}") for cut in cuts)
    found = chunks(text, budget, min(overlap, budget // 2), sections=sections)
    borders = [0, *cuts, len(text)]
    covered: set[int] = set()
    for chunk in found:
        assert chunk.text == text[chunk.start : chunk.end]
        assert 0 < chunk.tokens == count_words(chunk.text) <= budget
        assert any(low <= chunk.start and chunk.end <= high for low, high in itertools.pairwise(borders))
        covered |= set(range(chunk.start, chunk.end))
    assert [chunk.start for chunk in found] == sorted({chunk.start for chunk in found})
    assert [chunk.end for chunk in found] == sorted({chunk.end for chunk in found})
    assert all(place in covered for place, character in enumerate(text) if not character.isspace())
    assert len({chunk.id for chunk in found}) == len(found)


def test_a_section_that_fits_is_one_chunk_with_its_heading() -> None:
    text = "First part.\n\nSecond part."
    found = chunks(text, sections=((0, ""), (13, "Prices")))
    assert [(chunk.title, chunk.text) for chunk in found] == [
        ("Alpha", "First part."),
        ("Alpha > Prices", "Second part."),
    ]


def test_table_rows_rules_and_code_stay_whole() -> None:
    rows = [f"zone: Z{number}; price: {number}.40; unit: euro" for number in range(6)]
    rules = [f"{number}. Keep it dry. Keep it clean now." for number in range(1, 5)]
    code = "```\nlet a = 1\n\nlet b = 2\n```"
    text = "\n\n".join(["\n".join(rows), "\n".join(rules), code])
    found = chunks(text)
    for unit in [*rows, *rules, code]:
        assert any(unit in chunk.text for chunk in found), unit


def test_a_unit_beyond_the_budget_is_split_at_sentences_then_words_then_characters() -> None:
    text = "One two three four five. Six seven eight nine ten. Word " + " ".join(["word"] * 30)
    assert next(chunk.text for chunk in chunks(text)) == "One two three four five. Six seven eight nine ten."
    spec = ChunkSpec(max_tokens=8)
    found = chunk_document(document("x" * 100), spec, len)
    assert "".join(chunk.text for chunk in found) == "x" * 100
    assert max(len(chunk.text) for chunk in found) <= 8


def test_overlap_repeats_whole_units_of_the_same_section() -> None:
    text = " ".join(f"This is number {number}." for number in range(9))
    found = chunks(text, 12, 4)
    assert len(found) > 2
    for before, after in itertools.pairwise(found):
        assert after.text.startswith(before.text[-len("This is number 0.") :])
    assert not any(after.start < before.end for before, after in itertools.pairwise(chunks(text)))


def test_a_change_in_one_section_leaves_the_other_ids() -> None:
    first, second = "Pumps run here. " * 5, "Prices rise now. " * 5
    before = chunks(first + "\n\n" + second, sections=((0, "A"), (len(first) + 2, "B")))
    changed = "New words. " + first
    after = chunks(changed + "\n\n" + second, sections=((0, "A"), (len(changed) + 2, "B")))
    kept, made = ({chunk.id: chunk.title for chunk in found} for found in (before, after))
    assert {identity for identity, title in kept.items() if title.endswith("B")} <= made.keys()
    assert kept.keys() != made.keys()


def test_ids_tell_documents_specs_and_repeats_apart() -> None:
    text = "Same words.\n\nSame words."
    sections = ((0, ""), (13, ""))
    here = chunks(text, sections=sections)
    there = chunks(text, sections=sections, identity="b.md")
    other = chunks(text, 20, sections=sections)
    ids = [chunk.id for chunk in [*here, *there, *other]]
    assert len(set(ids)) == 6
    assert [chunk.id for chunk in chunks(text, sections=sections)] == ids[:2]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Hale came. He left.", ["Dr. Hale came.", "He left."]),
        ("It costs 6.40 euros. No. 4 is free.", ["It costs 6.40 euros.", "No. 4 is free."]),
        ('He said "Stop." Then he ran!  Why?', ['He said "Stop."', "Then he ran!", "Why?"]),
        ("1. Pay in time. Always.", ["1. Pay in time.", "Always."]),
        ("the U.S. Army, e.g. Bob", ["the U.S. Army, e.g. Bob"]),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text, 0, len(text))] == sentences


def test_a_document_without_text_and_an_impossible_overlap_are_refused() -> None:
    with pytest.raises(InputError, match=r"a\.md"):
        chunks("  \n ")
    with pytest.raises(ValidationError, match="at most half"):
        ChunkSpec(max_tokens=10, overlap_tokens=6)
