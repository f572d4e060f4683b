"""The quick look for clean text never spares a text in which the patterns find something."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.answering.guards.toxicity import PATTERNS, PHRASES, SPELLED, WORDS, is_clean, toxic

LISTED = sorted({word.rstrip("*") for listed in WORDS.values() for word in listed.split()})
PLAIN = "the bill shows a second reading of your meter episode change studies book soon discussion".split()  # noqa: SIM905
BETWEEN = ("", "", ".", "_", "*", "-", " ", ", ", "!", "(", "$ ")


@st.composite
def disguised(draw: Callable[..., Any]) -> str:
    """A listed word with letters repeated, replaced and set apart."""
    between: str = draw(st.sampled_from(BETWEEN))
    written = []
    for letter in draw(st.sampled_from(LISTED)):
        one = draw(st.sampled_from(SPELLED.get(letter, letter)))
        written.append((one.upper() if draw(st.booleans()) else one) * draw(st.integers(1, 3)))
    return between.join(written)


@given(st.lists(st.one_of(st.sampled_from(PLAIN), disguised()), min_size=1, max_size=8), st.sampled_from((" ", ". ")))
@settings(max_examples=1500, deadline=None)
def test_text_that_is_called_clean_has_no_match(words: list[str], between: str) -> None:
    text = between.join(words)
    found = [kind for kind, pattern in PATTERNS if pattern.search(text)]
    assert not (found and is_clean(text)), (text, found)
    assert {hit.kind for hit in toxic(text)} == set(found)


@pytest.mark.parametrize("word", LISTED)
def test_every_listed_word_is_seen_also_in_disguise(word: str) -> None:
    for text in (word, word.upper(), "-".join(word), " ".join(word), word.replace("i", "1").replace("o", "0")):
        assert not is_clean(f"so {text} it is")
        assert list(toxic(f"so {text} it is"))


@pytest.mark.parametrize("kind", sorted(PHRASES))
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_way_of_a_phrase_is_clean(kind: str, data: st.DataObject) -> None:
    phrase = re.compile(PHRASES[kind], re.VERBOSE | re.ASCII)
    text = data.draw(st.from_regex(phrase, fullmatch=True))
    assert not is_clean(text)
    assert not is_clean(text.upper())


def test_ordinary_text_is_clean() -> None:
    assert is_clean("The second reading changed the price, so the clerk looked at the book of episodes again.")
