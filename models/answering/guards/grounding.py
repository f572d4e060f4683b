"""An answer's sentences against the passages they cite."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from models.prompts import MARK, Source

WORD = re.compile(r"\d+(?:[.,:]\d+)*|\w+")

CUT = re.compile(
    r";"
    r"|\[\d{1,3}\]\s*[.!?…][\"'”’)]*\s+(?=[^\s\[])"
    r"|[.!?…][\"'”’)]*(?:\s*\[\d{1,3}\])+\s+(?=[^\s\[])"
    r"|\[\d{1,3}\][^\S\n]*\n\s*(?=[^\s\[])"
)
"""Where a sentence with its sources ends: at the `;` between parts, or at the end of a sentence that has marks.

Text that comes later never moves a cut: each one has been followed by the beginning of the next sentence.
"""

ASKING = {"what", "when", "where", "which", "whose", "does", "have", "with", "many", "much", "long", "often"}
"""Words of more than three letters that say that something is asked, not what."""


class Sentence(NamedTuple):
    """Text up to a cut. A sentence without marks goes by those of its part before it."""

    text: str
    """As the model wrote it, marks included."""
    numbers: tuple[int, ...]
    """Passages it goes by."""
    own: tuple[int, ...]
    """Passages that it names itself."""
    ends_part: bool


class Cutter:
    """Cuts text into sentences as it comes."""

    def __init__(self) -> None:
        self._rest = ""
        self._before: tuple[int, ...] = ()

    def push(self, text: str) -> Iterator[Sentence]:
        """The sentences that are complete with this text."""
        self._rest += text
        start = 0
        for cut in CUT.finditer(self._rest):
            ends_part = cut.group() == ";"
            yield self._sentence(self._rest[start : cut.start() if ends_part else cut.end()], ends_part)
            start = cut.end()
        self._rest = self._rest[start:]

    def end(self) -> Iterator[Sentence]:
        """What is left, as the last sentence."""
        rest, self._rest = self._rest, ""
        yield self._sentence(rest, True)

    def _sentence(self, text: str, ends_part: bool) -> Sentence:
        own = tuple(dict.fromkeys(int(number) for number in MARK.findall(text)))
        numbers = own or self._before
        self._before = () if ends_part else tuple(dict.fromkeys((*self._before, *own)))
        return Sentence(text, numbers, own, ends_part)


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))


def shared_words(text: str, numbers: Sequence[int], passages: Sequence[Source]) -> tuple[int, int]:
    """(words of the text that occur in these passages, words of the text); marks are no words."""
    wanted = _words(MARK.sub("", text))
    cited = [passages[number - 1] for number in numbers if 1 <= number <= len(passages)]
    seen = set().union(*(_words(f"{passage.title} {passage.text}") for passage in cited))
    return len(wanted & seen), len(wanted)


def grounded_share(text: str, passages: Sequence[Source]) -> float:
    """Least share, over the sentences of an answer, of its words that occur in the passages it cites (0 to 1)."""
    cutter, shares = Cutter(), [1.0]
    for sentence in (*cutter.push(text), *cutter.end()):
        found, wanted = shared_words(sentence.text, sentence.numbers, passages)
        shares.append(found / wanted if wanted else 1.0)
    return min(shares)


def relevant_share(question: str, text: str, numbers: Sequence[int], passages: Sequence[Source]) -> float:
    """Share of the question's words of some length that occur in the answer or in the passages it cites (0 to 1)."""
    asked = {word for word in _words(question) if len(word) > 3 and word not in ASKING}
    seen = _words(text)
    found, _ = shared_words(" ".join(asked - seen), numbers, passages)
    return (len(asked & seen) + found) / len(asked) if asked else 1.0
