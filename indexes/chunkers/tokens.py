"""Token counts of many spans of one text: exact, and mostly summed from counts of words that were seen before."""

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from indexes.chunkers.port import CountTokens, SpanCount
from infra.errors import SetupError

_AFTER_SPACE = re.compile(r"(?<=\S) +(?=\S)")
_AFTER_SPACE_OR_LINE = re.compile(r"(?<=\S)[ \n]+(?=\S)")
_JOINS_SPACE = re.compile(r"[^\sĠĊĉč▁][ Ġ▁]")
_JOINS_LINE = re.compile(r"[^\sĠĊĉč▁][\nĊ]")
"""Tokens with a space or a line's end behind another character, as vocabularies write them (Ġ, Ċ, ▁)."""
_MOST_REMEMBERED = 2**24
"""Characters of words whose counts are kept."""


class TokenCounter:
    """Counts tokens as one tokenizer does.

    Where no token of the vocabulary joins a character to a space behind it, none reaches over the place between a
    word and the space behind it. A text then has as many tokens as its words, each taken with the white space before
    it, and the counts of words are kept. Otherwise, and where a text spells out a special token, every span is encoded
    for itself.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        vocabulary = list(tokenizer.get_vocab())
        self._cuts: re.Pattern[str] | None = _AFTER_SPACE_OR_LINE
        if any(_JOINS_LINE.search(token) for token in vocabulary):
            self._cuts = _AFTER_SPACE
        if any(_JOINS_SPACE.search(token) for token in vocabulary):
            self._cuts = None
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._special = re.compile("|".join(re.escape(token) for token in added if token.strip()) or r"(?!)")
        self._first: dict[str, int] = {}
        self._later: dict[str, int] = {}
        self._remembered = 0
        self._letter = self("a")

    def __call__(self, text: str) -> int:
        """Tokens of a text, without those that a template adds around it."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def spans(self, text: str, start: int, end: int) -> SpanCount:
        """Counter of the spans of text[start:end]; exact for every one of them."""
        if self._cuts is None or self._special.search(text, start, end):
            return lambda begin, stop: self(text[begin:stop])
        cuts = [found.start() for found in self._cuts.finditer(text, start, end)]
        known, later = self._later.get, self._later_tokens
        words = [text[first:last] for first, last in pairwise(cuts)]
        counts = [later(word) if (found := known(word)) is None else found for word in words]
        totals = list(accumulate(counts, initial=0))

        def count(begin: int, stop: int) -> int:
            first, last = bisect_right(cuts, begin), bisect_left(cuts, stop) - 1
            if first > last:
                return self._first_tokens(text[begin:stop])
            whole = totals[last] - totals[first]
            return self._first_tokens(text[begin : cuts[first]]) + whole + later(text[cuts[last] : stop])

        return count

    def _first_tokens(self, word: str) -> int:
        """Tokens of a word at the beginning of a text."""
        found = self._first.get(word)
        if found is None:
            found = self._keep(self._first, word, self(word))
        return found

    def _later_tokens(self, word: str) -> int:
        """Tokens of a word with the white space before it, behind another word."""
        found = self._later.get(word)
        if found is None:
            found = self._keep(self._later, word, self("a" + word) - self._letter)
        return found

    def _keep(self, counts: dict[str, int], word: str, tokens: int) -> int:
        if self._remembered > _MOST_REMEMBERED:
            self._first.clear()
            self._later.clear()
            self._remembered = 0
        counts[word] = tokens
        self._remembered += len(word)
        return tokens


def token_counter(folder: Path) -> TokenCounter:
    """Counts tokens as the tokenizer of a model folder does. Raises SetupError without a tokenizer.json."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise SetupError(f"{file} is missing: chunks are counted by the tokenizer.json of the model's folder")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenCounter(tokenizer)


def span_counter(count: CountTokens, text: str, start: int, end: int) -> SpanCount:
    """Counter of the spans of text[start:end] for any counter of texts."""
    if isinstance(count, TokenCounter):
        return count.spans(text, start, end)
    return lambda begin, stop: count(text[begin:stop])
