"""The recursive chunker as it was first written, every span encoded for itself: what its spans are compared with."""

import itertools
import re
from collections.abc import Callable, Iterator

from indexes.chunkers.sentences import sentence_spans
from indexes.types import Document

Span = tuple[int, int]
Count = Callable[[str], int]
_GAP = re.compile(r"\n[ \t]*\n\s*")


def reference_spans(document: Document, budget: int, overlap: int, count: Count) -> list[Span]:
    """(start, end) of every chunk of a document."""
    offsets = [0, *(offset for offset, _ in document.sections), len(document.text)]
    sections = [(low, high) for low, high in itertools.pairwise(offsets) if document.text[low:high].strip()]
    return [span for section in sections for span in _pack(document.text, section, budget, overlap, count)]


def _pack(text: str, section: Span, budget: int, overlap: int, count: Count) -> Iterator[Span]:
    units = list(_units(text, section, 0, budget, count))
    first = 0
    while first < len(units):
        last = first
        while last + 1 < len(units) and count(text[units[first][0] : units[last + 1][1]]) <= budget:
            last += 1
        yield units[first][0], units[last][1]
        if last + 1 == len(units):
            return
        start = last + 1
        while (
            start - 1 > first
            and count(text[units[start - 1][0] : units[last][1]]) <= overlap
            and count(text[units[start - 1][0] : units[last + 1][1]]) <= budget
        ):
            start -= 1
        first = start


def _units(text: str, span: Span, level: int, budget: int, count: Count) -> Iterator[Span]:
    piece = text[span[0] : span[1]]
    if not piece.strip():
        return
    start, end = span[0] + len(piece) - len(piece.lstrip()), span[1] - (len(piece) - len(piece.rstrip()))
    if level and (count(text[start:end]) <= budget or end - start == 1):
        yield start, end
        return
    for part in (_blocks, _lines, sentence_spans, _halves)[min(level, 3)](text, start, end):
        yield from _units(text, part, level + 1, budget, count)


def _blocks(text: str, start: int, end: int) -> list[Span]:
    spans, begin = [], start
    for gap in _GAP.finditer(text, start, end):
        if sum(line.startswith("```") for line in text[begin : gap.start()].split("\n")) % 2 == 0:
            spans.append((begin, gap.start()))
            begin = gap.end()
    return [*spans, (begin, end)]


def _lines(text: str, start: int, end: int) -> list[Span]:
    spans, begin = [], start
    for line in text[start:end].split("\n"):
        spans.append((begin, begin + len(line)))
        begin += len(line) + 1
    return spans


def _halves(text: str, start: int, end: int) -> list[Span]:
    middle = (start + end) // 2
    found = text.rfind(" ", start + 1, middle + 1), text.find(" ", middle, end - 1)
    places = [place for place in found if place > start]
    cut = min(places, key=lambda place: abs(place - middle)) if places else middle
    return [(start, cut), (cut, end)]
