"""The natural units of a text: blocks, the parts of a block that belong together, lines, sentences, halves.

Fenced code, table rows, list items, numbered rules and definitions are parts that stay whole where they fit.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from indexes.chunkers.port import Span, SpanCount
from indexes.chunkers.sentences import sentence_spans

_FENCE = "```"
_WORD = re.compile(r"\S+")
_GAP = re.compile(r"\n[ \t]*\n\s*")
_ITEM = re.compile(
    r"[ \t]*(?:[-*+•‣–]|\(?(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{1,5})[.)]|\d{1,3}(?:\.\d{1,3})+)\s"
)
_ROW = re.compile(r"[ \t]*\||[^\n]* \| |[^:;\n]{1,80}(?:: [^;\n]+)?(?:; [^:;\n]{1,80}: [^;\n]+)+;?[ \t]*$")
_TERM = re.compile(r"[^\s:.!?;][^:.!?;\n]{0,40}:[ \t]+\S")
_WHOLE = (_ITEM, _ROW, _TERM)
_INDENTED = re.compile(r"(?: {2,}|\t)[ \t]*\S")
_MEANING = re.compile(r"[ \t]*:[ \t]")

Splitter = Callable[[str, int, int], Sequence[Span]]
"""text, start, end → spans in order that hold all of it but white space."""


class Part(NamedTuple):
    """A part of a block. `whole`: code, a row, an item, a rule or a definition; else a line of prose."""

    start: int
    end: int
    whole: bool


def trim(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends; (start, start) where there is nothing else."""
    piece = text[start:end]
    if not piece.strip():
        return start, start
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))


def blocks(text: str, start: int, end: int) -> list[Span]:
    """Paragraphs, tables, lists and fenced code: parted by empty lines, except inside fences."""
    spans: list[Span] = []
    begin = seen = start
    fences = int(text.startswith(_FENCE, begin, end))
    for gap in _GAP.finditer(text, start, end):
        fences += text.count("\n" + _FENCE, seen, gap.start())
        seen = gap.start()
        if fences % 2 == 0:
            spans.append((begin, gap.start()))
            begin = seen = gap.end()
            fences = int(text.startswith(_FENCE, begin, end))
    spans.append((begin, end))
    return spans


def lines(text: str, start: int, end: int) -> list[Span]:
    """Lines without their ends."""
    spans: list[Span] = []
    begin = start
    for line in text[start:end].split("\n"):
        spans.append((begin, begin + len(line)))
        begin += len(line) + 1
    return spans


def parts(text: str, start: int, end: int) -> list[Part]:
    """The parts of a block, in order. Lines that are indented, or give a meaning after a colon, belong to the item or
    the term before them."""
    found: list[Part] = []
    code = False
    for begin, stop in lines(text, start, end):
        fence = text.startswith(_FENCE, begin, stop)
        last = found[-1] if found else None
        if code or (last and _continues(text, begin, stop, last, fence)):
            found[-1] = Part(found[-1].start, stop, True)
        else:
            found.append(Part(begin, stop, fence or any(kind.match(text, begin, stop) for kind in _WHOLE)))
        code = code != fence
    return found


def _continues(text: str, begin: int, stop: int, last: Part, fence: bool) -> bool:
    if fence or text.startswith(_FENCE, last.start):
        return False
    if _MEANING.match(text, begin, stop):
        return True
    return last.whole and bool(_INDENTED.match(text, begin, stop)) and not _ITEM.match(text, begin, stop)


def part_spans(text: str, start: int, end: int) -> list[Span]:
    """The spans of `parts`."""
    return [(part.start, part.end) for part in parts(text, start, end)]


def halves(text: str, start: int, end: int) -> list[Span]:
    """Two parts, cut at the white space nearest to the middle, or in the middle of one long word."""
    middle = (start + end) // 2
    before, after = text.rfind(" ", start + 1, middle + 1), text.find(" ", middle, end - 1)
    candidates = [place for place in (before, after) if place > start]
    cut = min(candidates, key=lambda place: abs(place - middle)) if candidates else middle
    return [(start, cut), (cut, end)]


LEVELS: tuple[Splitter, ...] = (blocks, part_spans, lines, sentence_spans, halves)
"""From the largest units to the smallest."""


def units(text: str, span: Span, budget: int, count: SpanCount, level: int = 0) -> Iterator[Span]:
    """Units of at most `budget` tokens in order: each as large as the levels from `level` on allow."""
    for part in LEVELS[min(level, len(LEVELS) - 1)](text, *span):
        start, end = trim(text, *part)
        if start == end:
            continue
        if count(start, end) <= budget or end - start == 1:
            yield start, end
        else:
            yield from units(text, (start, end), budget, count, level + 1)


def sentences(text: str, span: Span, budget: int, count: SpanCount) -> Iterator[Span]:
    """Sentences of prose, and parts that stay whole, of at most `budget` tokens: what exceeds it is split further."""
    for start, end, whole in _runs(text, span):
        if whole and count(start, end) <= budget:
            yield start, end
        elif whole:
            yield from units(text, (start, end), budget, count, LEVELS.index(lines))
        else:
            yield from units(text, (start, end), budget, count, LEVELS.index(sentence_spans))


def words(text: str, span: Span, budget: int, count: SpanCount) -> Iterator[Span]:
    """Words of prose, and parts that stay whole, of at most `budget` tokens; longer words are cut."""
    for start, end, whole in _runs(text, span):
        if whole and count(start, end) <= budget:
            yield start, end
            continue
        for word in _WORD.finditer(text, start, end):
            if count(*word.span()) <= budget:
                yield word.span()
            else:
                yield from units(text, word.span(), budget, count, LEVELS.index(halves))


def _runs(text: str, span: Span) -> Iterator[Part]:
    """The parts of every block of a span without white space at their ends; neighbouring lines of prose are one."""
    for block in blocks(text, *span):
        for whole, group in groupby(parts(text, *block), key=lambda part: part.whole):
            members = list(group)
            joined = members if whole else [Part(members[0].start, members[-1].end, False)]
            for part in joined:
                start, end = trim(text, part.start, part.end)
                if start < end:
                    yield Part(start, end, whole)
