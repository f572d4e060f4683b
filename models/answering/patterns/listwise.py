"""Reranking by the model, behind any pattern: it reads a window of passages and says their order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from indexes.types import Passage
from models.answering.patterns.lookup import Asking, Lookup
from models.answering.patterns.port import Pattern, Retrieved
from models.answering.patterns.spec import ListwiseSpec

ORDER = (
    "{passages}\n\nQuestion: {question}\n\nPut the {count} passages in order, the one that answers the question best "
    "first. Reply with their numbers alone, like [2] > [1] > [3]."
)
_NUMBER = re.compile(r"(?<!\d)\d{1,3}(?!\d)")
_MARKED = re.compile(r"\[(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class Listwise:
    """The best passages of a pattern in the model's order.

    RankGPT: Sun et al. 2023, arXiv:2304.09542: windows move from the last passages up to the first, so that what is
    good rises all the way. There a number that the reply leaves out goes to the end of its window; here it keeps its
    place, so that a reply of one number changes nothing.
    """

    pattern: Pattern
    asking: Asking
    spec: ListwiseSpec

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        found = await self.pattern.retrieve(question, access)
        lookup = self.asking.begin(question, access, found)
        best = found.passages[: self.spec.passages]
        understood = 0
        for start in windows(len(best), self.spec):
            window = best[start : start + self.spec.window]
            said = await self._order(lookup, window)
            understood += len(said) > 1
            best[start : start + self.spec.window] = reordered(window, said)
        lookup.note(f"listwise: {understood} orders understood")
        ranked = [one.model_copy(update={"ranks": {**one.ranks, "listwise": at}}) for at, one in enumerate(best, 1)]
        return lookup.result([*ranked, *found.passages[self.spec.passages :]])

    async def _order(self, lookup: Lookup, window: Sequence[Passage]) -> list[int]:
        said = await lookup.ask(ORDER, passages=lookup.shown(window), count=len(window))
        return order(said, len(window))


def windows(passages: int, spec: ListwiseSpec) -> list[int]:
    """Where the windows start, the last passages first; a single passage has no order."""
    if passages < 2:
        return []
    starts = (max(0, passages - spec.window - step * spec.stride) for step in count())
    found = [next(starts)]
    while found[-1] > 0:
        found.append(next(starts))
    return found


def order(said: str, passages: int) -> list[int]:
    """The places (from 0) that a reply names, in its order, each once: those in brackets, or else any numbers."""
    numbers = _MARKED.findall(said) or _NUMBER.findall(said)
    return [place - 1 for place in dict.fromkeys(map(int, numbers)) if 1 <= place <= passages]


def reordered(window: Sequence[Passage], named: Sequence[int]) -> list[Passage]:
    """The window with the named places in their order; the others stay where they are."""
    placed = list(window)
    for place, source in zip(sorted(named), named, strict=True):
        placed[place] = window[source]
    return placed
