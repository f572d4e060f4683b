"""Prompts: exact rendering, checked variables, reading answers back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.errors import InputError
from infra.store import LocalStore
from models.answering.fake import chunk
from models.marks import mark_of
from models.prompts import DEFAULT, load_prompt, parse_answer, render, render_support, store_prompt, unknown_marks

MARK = mark_of("trace-1")


def test_the_default_prompt_is_exactly_this() -> None:
    passages = [chunk(1, "Meters are read\nevery 14 days.", title="Meter reading"), chunk(2, "Open {daily}.", title="")]
    system, user = render(DEFAULT, passages, "How often?", "trace-1")
    assert (system.role, system.content) == ("system", "Answer from the passages. Cite the passage number.")
    assert user.content == (
        f"[1] Meter reading: Meters are read every 14 days.\n[2] Open {{daily}}.\n{MARK}\n\nQuestion: How often?"
    )
    assert render_support(DEFAULT, passages[:1], "Meters are read daily", "trace-1")[1].content == (
        f"[1] Meter reading: Meters are read every 14 days.\n{MARK}\n\n"
        "Claim: Meters are read daily\nDo the passages support the claim? Answer yes or no."
    )


@pytest.mark.parametrize(
    ("text", "answer", "cited", "refused"),
    [
        ("14 days [2]", "14 days", (2,), False),
        ("14 days [2]; the duty chemist [1]", "14 days; the duty chemist", (2, 1), False),
        ("14 days[2][1].", "14 days.", (2, 1), False),
        ("14 days", "14 days", (), False),
        ("14 days [7]", "14 days", (), False),
        ("The passages do not say.", "The passages do not say.", (), True),
        ("the passages do not say [1]", "The passages do not say.", (), True),
        ("  ", "The passages do not say.", (), True),
    ],
)
def test_answers_are_read_back(text: str, answer: str, cited: tuple[int, ...], refused: bool) -> None:
    assert parse_answer(text, 3) == (answer, cited, refused)


def test_marks_of_passages_that_do_not_exist() -> None:
    assert unknown_marks("a [0]; b [2] c [9]", 3) == (0, 9)


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z0-9]{1,8}( [a-z0-9]{1,8}){0,3}", fullmatch=True), st.integers(1, 5)),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_written_in_the_format_is_read_back(parts: list[tuple[str, int]]) -> None:
    text = "; ".join(f"{words} [{number}]" for words, number in parts)
    answer, cited, refused = parse_answer(text, 5)
    assert answer == "; ".join(words for words, _ in parts)
    assert set(cited) == {number for _, number in parts}
    assert not refused


@pytest.mark.parametrize(
    "user", ["{passages}", "{passages} {question} {system}", "{passages.text} {question}", "{passages!r} {question}"]
)
def test_wrong_variables_are_refused(user: str) -> None:
    with pytest.raises(ValidationError, match="variable"):
        DEFAULT.model_validate(DEFAULT.model_dump() | {"user": user})


def test_a_prompt_is_an_artifact(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ref = store_prompt(DEFAULT, store)
    assert load_prompt(ref, store) == DEFAULT
    assert store_prompt(DEFAULT, store) == ref
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "prompt.json").write_text('{"id": "x"}')
    with pytest.raises(InputError, match="prompt"):
        load_prompt(store.put("prompt", folder), store)
