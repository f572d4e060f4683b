"""Context: near-duplicates, budget, order."""

from hypothesis import given
from hypothesis import strategies as st

from models.answering.context import ContextSpec, at_the_edges, build_context
from models.answering.fake import chunk


def words(text: str) -> int:
    return len(text.split())


def spec(**change: object) -> ContextSpec:
    return ContextSpec.model_validate(
        {"passages": 3, "token_budget": 60, "near_duplicate": 0.8, "order": "best-first"} | change
    )


def test_the_weaker_of_two_near_duplicates_goes() -> None:
    text = "the meter in the cellar of every house is read by the customer twice a year"
    one, copy, other = chunk(1, text), chunk(2, text + " now"), chunk(3, "hydrants are opened by staff only")
    assert build_context([one, copy, other], "", spec(), words) == [one, other]
    assert build_context([one, copy, other], "", spec(near_duplicate=1.0), words) == [one, copy, other]


def test_passages_that_do_not_fit_are_skipped_and_the_next_may() -> None:
    long, middle, short = (chunk(n, f"w{n} " * size) for n, size in ((1, 30), (2, 50), (3, 20)))
    assert build_context([long, middle, short], "", spec(), words) == [long, short]


def test_a_best_passage_larger_than_the_budget_is_cut_at_a_sentence() -> None:
    text = "First one is here. " + "Second has many words indeed. " * 20
    shown = build_context([chunk(1, text)], "", spec(token_budget=32), words)
    assert len(shown) == 1
    assert shown[0].text.startswith("First one is here. Second")
    assert shown[0].text.endswith("indeed.")
    assert words(shown[0].embedding_text) <= 32


def test_the_strongest_stand_at_the_edges() -> None:
    ranked = [chunk(n, str(n)) for n in range(1, 7)]
    assert [one.document[-1] for one in at_the_edges(ranked)] == list("135642")


@given(st.lists(st.integers(1, 80), max_size=12), st.integers(32, 120), st.integers(1, 5))
def test_never_more_than_allowed(sizes: list[int], budget: int, passages: int) -> None:
    chunks = [chunk(n, " ".join(f"w{n}x{m}" for m in range(size))) for n, size in enumerate(sizes)]
    shown = build_context(chunks, "", spec(token_budget=budget, passages=passages, order="edges"), words)
    assert len(shown) <= passages
    assert bool(shown) == bool(chunks)
    whole = [one for one in shown if one in chunks]
    assert len(shown) == 1 or sum(words(one.embedding_text) for one in whole) <= budget
