"""Text as it comes, in two views that hide nothing: what a reader sees, and its letters and digits alone."""

import unicodedata
from functools import lru_cache

from models.answering.guards.decoding import HIDDEN, LOOKALIKES

FOLDED = LOOKALIKES | str.maketrans("внη", "bhn")
"""Look-alikes, with small letters that look like Latin capitals."""


@lru_cache(maxsize=65536)
def _shown(char: str) -> str:
    if HIDDEN.match(char):
        return ""
    if char.isascii():
        return char
    digit = unicodedata.digit(char, None)
    folded = str(digit) if digit is not None else unicodedata.normalize("NFKC", char)
    return folded.translate(FOLDED)


@lru_cache(maxsize=65536)
def _letters(shown: str) -> str:
    plain = unicodedata.normalize("NFKD", shown)
    return "".join(char for char in plain.casefold() if char.isalnum())


def letters(text: str) -> str:
    """The letters and digits of a text as they are compared: small, Latin where they look so, nothing between."""
    return "".join(_letters(_shown(char)) for char in text)


class View:
    """A folded text, and for each of its characters where in the text it came from."""

    def __init__(self) -> None:
        self.text = ""
        self._origin: list[int] = []
        self._end = 0

    def add(self, folded: list[str]) -> None:
        """Append what each further character of the text became."""
        for place, piece in enumerate(folded, self._end):
            self._origin.extend([place] * len(piece))
        self._end += len(folded)
        self.text += "".join(folded)

    def add_as_it_is(self, text: str) -> None:
        """Append text of which every character stays."""
        self._origin.extend(range(self._end, self._end + len(text)))
        self._end += len(text)
        self.text += text

    def add_letters(self, text: str) -> None:
        """Append the letters and digits of ASCII text, small."""
        self._origin += [place for place, char in enumerate(text, self._end) if char.isalnum()]
        self._end += len(text)
        self.text += "".join(filter(str.isalnum, text)).lower()

    def origin(self, place: int) -> int:
        """Where in the text the character at `place` of the view came from; the text's end behind the last one."""
        return self._origin[place] if place < len(self._origin) else self._end


class Seen:
    """What an answer has been so far. Characters are folded one by one: more text never changes what was folded."""

    def __init__(self) -> None:
        self.text = ""
        self.shown = View()
        """Compatibility forms and look-alikes folded, hidden characters gone."""
        self.letters = View()
        """Letters and digits alone, in small letters."""

    def add(self, text: str) -> None:
        """Append text."""
        self.text += text
        if text.isascii():
            self.shown.add_as_it_is(text)
            self.letters.add_letters(text)
            return
        shown = [_shown(char) for char in text]
        self.shown.add(shown)
        self.letters.add([_letters(char) for char in shown])
