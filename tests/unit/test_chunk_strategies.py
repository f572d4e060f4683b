"""Every strategy over random documents: nothing lost or invented, budgets kept, units whole, untouched ids kept."""

import itertools
from functools import lru_cache
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from indexes.chunkers.port import CountTokens
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.chunkers.tokens import TokenCounter, token_counter
from indexes.fake import HashingEmbedder
from indexes.types import Chunk, Document
from infra.errors import SetupError
from infra.settings import ROOT
from tests.unit.recursive_reference import reference_spans

STRATEGIES = get_args(ChunkSpec.model_fields["strategy"].annotation)


@lru_cache(maxsize=1)
def starter() -> TokenCounter:
    return token_counter(ROOT / "models/starter/weights")


def count_words(text: str) -> int:
    return len(text.split())


def document(sections: list[list[str]]) -> Document:
    """Sections of blocks; the section with number n has the heading `h<n>`."""
    text, starts = "", []
    for number, blocks in enumerate(sections):
        starts.append((len(text), f"h{number}"))
        text += "\n\n".join(blocks) + "\n\n"
    return Document(id="a.md", title="A", text=text, media="markdown", digest="d", sections=tuple(starts))


def cut(made: Document, spec: ChunkSpec, count: CountTokens = count_words) -> list[Chunk]:
    return chunk_document(made, spec, count, HashingEmbedder() if spec.needs_embedder else None)


def spec_of(strategy: str, budget: int = 24, overlap: int = 0, **values: int) -> ChunkSpec:
    sizes = {"max_tokens": budget, "overlap_tokens": overlap, "child_tokens": max(8, budget // 3)}
    return ChunkSpec.model_validate({"strategy": strategy, **sizes, **values})


WORD = st.one_of(
    st.sampled_from(["pump", "runs", "Water", "6.40", "e.g.", "Wert", "größer", "水道料金", "🚰", "a\u0301"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n`|"), min_size=1, max_size=5),
    st.sampled_from(["x" * 90, "ß" * 50, "https://host/" + "p/" * 40]),
)
PROSE = st.lists(
    st.lists(WORD, min_size=1, max_size=9).map(lambda words: "So " + " ".join(words) + "."), max_size=6
).map(" ".join)
CODE = st.lists(st.sampled_from(["let a = 1", "", "  b()"]), max_size=5).map(
    lambda rows: "\n".join(["```", *rows, "```"])
)
LIST = st.integers(1, 6).map(lambda size: "\n".join(f"{n}. Keep it dry. Keep it clean." for n in range(1, size + 1)))
ROWS = st.integers(1, 8).map(
    lambda size: "| zone | price |\n|---|---|\n" + "\n".join(f"| Z{n} | {n}.40 |" for n in range(size))
)
TERMS = st.integers(1, 4).map(lambda size: "\n".join(f"Term {n}: what it means. At length." for n in range(size)))
SECTIONS = st.lists(
    st.lists(st.one_of(PROSE, CODE, LIST, ROWS, TERMS), min_size=1, max_size=5), min_size=1, max_size=4
).filter(lambda sections: any(block.strip() for blocks in sections for block in blocks))


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=40, deadline=None)
@given(SECTIONS, st.integers(24, 60), st.integers(0, 4), st.booleans())
def test_nothing_lost_nothing_invented_and_budgets_kept(
    strategy: str, sections: list[list[str]], budget: int, overlap: int, real: bool
) -> None:
    made, count = document(sections), starter() if real else count_words
    spec = spec_of(strategy, budget, overlap)
    found = cut(made, spec, count)
    borders = [*(start for start, _ in made.sections), len(made.text)]
    matched = spec.child_tokens if strategy == "parent-child" else budget
    covered: set[int] = set()
    for chunk in found:
        assert chunk.text == made.text[chunk.start : chunk.end]
        assert chunk.tokens == count(chunk.text) <= matched
        low, high = next(pair for pair in itertools.pairwise(borders) if pair[0] <= chunk.start < pair[1])
        shown = chunk.shown()
        assert low <= shown.start <= chunk.start < chunk.end <= shown.end <= high
        assert shown.tokens == count(made.text[shown.start : shown.end]) <= budget
        assert chunk.window in (made.text[shown.start : shown.end], "")
        assert chunk.header == made.text[chunk.header_start or 0 : chunk.header_end or 0]
        covered |= set(range(chunk.start, chunk.end))
    assert all(place in covered for place, character in enumerate(made.text) if not character.isspace())
    assert [chunk.start for chunk in found] == sorted(chunk.start for chunk in found)
    assert len({chunk.id for chunk in found}) == len(found)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=25, deadline=None)
@given(SECTIONS, st.data())
def test_a_change_in_one_section_leaves_the_ids_of_the_others(
    strategy: str, sections: list[list[str]], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(sections) - 1))
    changed = [*sections[:place], ["Quite other words. " * data.draw(st.integers(1, 9))], *sections[place + 1 :]]
    before, after = (cut(document(version), spec_of(strategy)) for version in (sections, changed))
    kept = {chunk.id for chunk in before if chunk.title != f"A > h{place}"}
    assert kept == {chunk.id for chunk in after if chunk.title != f"A > h{place}"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_code_rows_rules_and_definitions_stay_whole(strategy: str) -> None:
    rows = [f"zone: Z{number}; price: {number}.40; unit: euro" for number in range(6)]
    pipes = [f"| Z{number} | {number}.40 | each |" for number in range(6)]
    rules = [f"{number}. Keep it dry now.\n   And keep it clean." for number in range(1, 5)]
    terms = [f"Term {number}: a meaning. And more." for number in range(4)]
    lists = [f"Name {number}\n: what it means" for number in range(4)]
    code = "```\nlet a = 1\n\nlet b = 2\n```"
    blocks = [rows, ["| zone | price | unit |", "|---|---|---|", *pipes], rules, terms, lists]
    text = [*("\n".join(block) for block in blocks), "Prose goes on and on and on here.\n" + code]
    found = cut(document([text]), spec_of(strategy, 24, child_tokens=12))
    for unit in [*rows, *pipes, *rules, *terms, *lists, code]:
        assert any(unit in chunk.text for chunk in found), unit


@settings(max_examples=60, deadline=None)
@given(SECTIONS, st.integers(16, 60), st.integers(0, 8))
def test_recursive_spans_are_those_of_the_plain_algorithm(sections: list[list[str]], budget: int, overlap: int) -> None:
    made = document([[block for block in blocks if block.strip() == block] for blocks in sections])
    if not made.text.strip() or any("\n " in block or "\n\t" in block for blocks in sections for block in blocks):
        return
    found = cut(made, spec_of("recursive", budget, overlap), starter())
    assert [(chunk.start, chunk.end) for chunk in found] == reference_spans(made, budget, overlap, starter())


def test_fixed_windows_are_full_and_overlap() -> None:
    made = document([[" ".join(f"w{number}" for number in range(100))]])
    found = cut(made, spec_of("fixed", 24, 6))
    assert [chunk.tokens for chunk in found] == [24, 24, 24, 24, 24, 10]
    assert [chunk.text.split()[0] for chunk in found] == ["w0", "w18", "w36", "w54", "w72", "w90"]


def test_document_chunks_are_sections_and_even_parts_of_long_ones() -> None:
    sentences = [f"Pump number {number} runs." for number in range(13)]
    found = cut(document([["Short one.", "Two blocks."], [" ".join(sentences)]]), spec_of("document", 24))
    assert found[0].text == "Short one.\n\nTwo blocks."
    assert [chunk.tokens for chunk in found[1:]] == [20, 20, 12]


def test_semantic_chunks_end_where_the_subject_changes() -> None:
    pumps, fees = ["The pump moves water."] * 12, ["A late fee costs money."] * 12
    spec = spec_of("semantic", 500, breakpoint_percentile=90)
    found = cut(document([[" ".join([*pumps, *fees])]]), spec)
    assert [chunk.text for chunk in found] == [" ".join(pumps), " ".join(fees)]
    with pytest.raises(SetupError, match="embedder"):
        chunk_document(document([["One."]]), spec, count_words)


def test_a_sentence_is_shown_with_its_neighbours_and_a_child_with_its_parent() -> None:
    sentences = [f"Sentence number {number} stands here." for number in range(9)]
    made = document([[" ".join(sentences)]])
    window = cut(made, spec_of("sentence-window", 100, window_sentences=2))
    assert [chunk.text for chunk in window] == sentences
    assert window[4].shown().text == " ".join(sentences[2:7])
    assert window[0].shown().text == " ".join(sentences[:3])
    children = cut(made, spec_of("parent-child", 25, child_tokens=10))
    assert {chunk.shown().text for chunk in children} == {" ".join(sentences[:5]), " ".join(sentences[5:])}
    assert all(chunk.tokens <= 10 for chunk in children)


def test_a_cut_table_keeps_its_header() -> None:
    header = "| zone | price |\n|---|---|"
    rows = [f"| Z{number} | {number}.40 |" for number in range(9)]
    found = cut(document([["\n".join([header, *rows])]]), spec_of("recursive", 24))
    assert len(found) > 1
    assert [chunk.header for chunk in found] == ["", *[header] * (len(found) - 1)]
    assert found[1].embedding_text == f"{found[1].title}: {header}\n{found[1].text}"
    assert found[1].shown().text == f"{header}\n{found[1].text}"


def test_an_impossible_size_is_refused_and_an_older_chunk_is_read() -> None:
    with pytest.raises(ValidationError, match="child_tokens"):
        ChunkSpec(strategy="parent-child", max_tokens=100)
    with pytest.raises(ValidationError, match="half of child_tokens"):
        ChunkSpec(strategy="parent-child", overlap_tokens=90)
    old = {"id": "c", "document": "d", "title": "", "text": "One.", "start": 0, "end": 4, "tokens": 2}
    chunk = Chunk.model_validate(old)
    assert chunk.shown() == chunk
    assert chunk.parent_start is None
