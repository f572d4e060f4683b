"""Joins neighbouring units to pieces up to a token budget, with the allowed overlap."""

from collections.abc import Iterator, Sequence

from indexes.chunkers.port import Span, SpanCount


def pack(units: Sequence[Span], budget: int, overlap: int, count: SpanCount) -> Iterator[Span]:
    """Spans of joined units of at most `budget` tokens; each begins with whole units of the one before it, as many as
    fit into `overlap` tokens and leave room for the next unit. A unit beyond the budget stays alone."""
    first = 0
    while first < len(units):
        last = first
        while last + 1 < len(units) and count(units[first][0], units[last + 1][1]) <= budget:
            last += 1
        yield units[first][0], units[last][1]
        if last + 1 == len(units):
            return
        start = last + 1
        while (
            start - 1 > first
            and count(units[start - 1][0], units[last][1]) <= overlap
            and count(units[start - 1][0], units[last + 1][1]) <= budget
        ):
            start -= 1
        first = start
