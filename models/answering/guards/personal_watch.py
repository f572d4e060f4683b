"""Personal data in an answer that is still being written."""

from collections.abc import Iterator
from re import _parser  # the only place that knows how long a pattern's match can be

from models.answering.guards.personal import ANYTHING, PersonalData
from models.answering.guards.watch import Hit, PatternWatch, last_word

LONGEST = 96
"""Characters of the longest number that is written in groups (IBAN, card, phone), with room to spare."""

SHORT = 4
"""A word of more characters without a digit ends a number: the groups of an IBAN have four."""


def longest_match(pattern: str) -> int:
    """Most characters that a match of a regular expression can have; very many where it has no bound."""
    return int(_parser.parse(pattern).getwidth()[1])


class Waiting:
    """From where a text may still become personal data: an unfinished word, or a number that may go on."""

    def __init__(self, patterns: dict[str, str]) -> None:
        self._own = max((longest_match(pattern) for pattern in patterns.values()), default=0)

    def __call__(self, text: str) -> int:
        place = begin = last_word(text)
        while place > len(text) - LONGEST:
            stop = len(text[:place].rstrip())
            place = last_word(text[:stop])
            word = text[place:stop]
            if ANYTHING.search(word):
                begin = place
            elif len(word) > SHORT or not word:
                break
        return max(0, min(begin, len(text) - self._own))


def personal_watch(personal: PersonalData, waiting: Waiting) -> PatternWatch:
    """A watch for one answer; what it finds is named by kind."""

    def find(text: str) -> Iterator[Hit]:
        return (Hit(one.kind, one.start) for one in personal.find(text))

    return PatternWatch("personal-data", find, waiting, ANYTHING)
