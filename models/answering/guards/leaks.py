"""Secrets that must not leave: planted tokens and the system prompt, also disguised."""

import base64
import codecs
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache

from models.answering.guards.seen import Seen, View, letters
from models.answering.guards.watch import Look

SURE = 8
"""Letters and digits that a secret needs to be looked for without what stands between them."""


def _disguises(token: str) -> list[str]:
    """The token as it stands, backwards, in rot13, hexadecimal, and the part of its base64 that neighbours leave."""
    raw = token.encode()
    encoded = [base64.b64encode(b"\0" * shift + raw).decode()[skip:] for shift, skip in ((0, 0), (1, 2), (2, 3))]
    whole = [piece.rstrip("=")[: len(piece.rstrip("=")) - (piece[-1] == "=")] for piece in encoded]
    return [token, token[::-1], codecs.encode(token, "rot13"), raw.hex(), *whole]


@lru_cache(maxsize=1024)
def forms(token: str) -> tuple[str, ...]:
    """What to look for among the letters and digits of an answer; nothing for a token that has too few of them."""
    folded = dict.fromkeys(letters(form) for form in _disguises(token))
    return tuple(form for form in folded if len(form) >= SURE) if len(letters(token)) >= SURE else ()


class _Literals:
    """Fixed texts in one view. A text waits from where it may be the beginning of one of them."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = tuple(wanted)
        self._longest = max(map(len, wanted), default=0)
        self._done = 0

    def look(self, view: View, ended: bool) -> tuple[bool, int]:
        """(one is there, place in the text from which to wait)."""
        tail = view.text[max(0, self._done - self._longest) :]
        self._done = len(view.text)
        found = any(text in tail for text in self._wanted)
        held = 0 if ended else max((self._overlap(text, tail) for text in self._wanted), default=0)
        return found, view.origin(self._done - held)

    @staticmethod
    def _overlap(wanted: str, tail: str) -> int:
        """Characters at the end of the tail that begin the wanted text."""
        first = wanted[0]
        place = tail.find(first, max(0, len(tail) - len(wanted) + 1))
        while place >= 0 and not wanted.startswith(tail[place:]):
            place = tail.find(first, place + 1)
        return len(tail) - place if place >= 0 else 0


class TokenWatch:
    """Planted tokens: in any disguise that `forms` knows; short ones literally. They are looked for to the end."""

    guard = "leak"

    def __init__(self, tokens: Sequence[str]) -> None:
        self._disguised = _Literals(tuple(dict.fromkeys(form for token in tokens for form in forms(token))))
        self._literal = _Literals(tuple(token for token in tokens if token and not forms(token)))

    def look(self, seen: Seen, ended: bool) -> Look:
        """See Watch."""
        disguised, safe = self._disguised.look(seen.letters, ended)
        literal, other = self._literal.look(seen.shown, ended)
        found = "planted token" if disguised or literal else ""
        return Look(found, len(seen.text) if ended else min(safe, other))


class SystemPrompt:
    """The letters of a system prompt, and where its words begin and end in them."""

    def __init__(self, text: str) -> None:
        words = [word for word in map(letters, text.split()) if word]
        self.letters = "".join(words)
        self._ends: list[int] = []
        for word in words:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(word))
        self._begins = [end - len(word) for end, word in zip(self._ends, words, strict=True)]

    def words(self, run: str) -> int:
        """Whole words of the prompt that a run of its letters covers."""
        start = self.letters.find(run)
        if start < 0:
            return 0
        return max(0, bisect_right(self._ends, start + len(run)) - bisect_left(self._begins, start))


class PromptWatch:
    """The system prompt: so many of its words in one run. A text waits from where it repeats the prompt."""

    guard = "system-prompt"

    def __init__(self, prompt: SystemPrompt, most: int) -> None:
        self._prompt = prompt
        self._most = most
        self._begin = 0
        self._done = 0

    def look(self, seen: Seen, ended: bool) -> Look:
        """See Watch."""
        text, longest = seen.letters.text, 0
        while self._done < len(text):
            self._done += 1
            while text[self._begin : self._done] not in self._prompt.letters:
                self._begin += 1
            if self._done - self._begin >= self._most:
                longest = max(longest, self._prompt.words(text[self._begin : self._done]))
        found = f"{longest} words of the system prompt" if longest >= self._most else ""
        return Look(found, len(seen.text) if ended else seen.letters.origin(self._begin))
