"""The port of what watches a stream, and watching by patterns over words."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from models.answering.guards.seen import Seen

CONTEXT = 32
"""Characters before a piece of text that its patterns may look at."""


class Look(NamedTuple):
    """What a watch says of the text so far."""

    found: str
    """What must not leave, in words for the trace (never the text itself); empty = nothing."""
    safe: int
    """The text before this place may leave, whatever comes behind it."""


class Watch(Protocol):
    """Watches one answer for one guard. A watch keeps its place, so it serves one answer only."""

    @property
    def guard(self) -> str: ...

    def look(self, seen: Seen, ended: bool) -> Look:
        """Judge the text so far; `ended` = nothing comes any more, so nothing has to wait."""
        ...


class Hit(NamedTuple):
    """A place in a text, and what was found there."""

    kind: str
    start: int


class PatternWatch:
    """Finds patterns in what a reader sees. `waiting` says from where text may still become a match.

    Text is judged once, when it is about to leave: all that can belong to a match that begins in it is there by then.
    `worth` is what no match does without: text that has none of it is not looked at.
    """

    def __init__(
        self,
        guard: str,
        find: Callable[[str], Iterable[Hit]],
        waiting: Callable[[str], int],
        worth: re.Pattern[str] | None = None,
    ) -> None:
        self.guard = guard
        self._find = find
        self._waiting = waiting
        self._worth = worth
        self._clear = 0

    def look(self, seen: Seen, ended: bool) -> Look:
        """See Watch."""
        text = seen.shown.text
        safe = len(text) if ended else max(self._clear, self._waiting(text))
        kinds: set[str] = set()
        if safe > self._clear and (self._worth is None or self._worth.search(text, self._clear, safe)):
            start = max(0, self._clear - CONTEXT)
            kinds = {hit.kind for hit in self._find(text[start:]) if self._clear <= start + hit.start < safe}
        self._clear = safe
        return Look(", ".join(sorted(kinds)), seen.shown.origin(safe))


def last_word(text: str) -> int:
    """Where the last word begins: a word that more text may go on with."""
    place = len(text)
    while place and not text[place - 1].isspace():
        place -= 1
    return place
