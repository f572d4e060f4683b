"""Recursive chunks: section → block → line → sentence → halves, packed up to a token budget.

A unit is split only if it alone exceeds the budget, so table rows, code and numbered rules stay whole where they can.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from indexes.chunkers.sentences import sentence_spans
from indexes.types import Chunk, Document
from infra.errors import InputError, SetupError
from infra.settings import Spec
from infra.store import code_version, value_digest

Span = tuple[int, int]
CountTokens = Callable[[str], int]

_FENCE = "```"
_GAP = re.compile(r"\n[ \t]*\n\s*")


class ChunkSpec(Spec):
    """How documents are cut."""

    max_tokens: int = Field(500, ge=8, le=8192)
    """Most tokens of a chunk's text."""
    overlap_tokens: int = Field(0, ge=0)
    """Tokens of whole units that a chunk repeats from the end of the one before it in its section."""
    strategy: Literal["recursive"] = "recursive"
    """How a text is cut."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> "ChunkSpec":
        if self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError("overlap_tokens must be at most half of max_tokens")
        return self


def token_counter(folder: Path) -> CountTokens:
    """Counts tokens as the tokenizer of a model folder does. Raises SetupError without a tokenizer.json."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise SetupError(f"{file} is missing: chunks are counted by the tokenizer.json of the model's folder")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def chunk_document(document: Document, spec: ChunkSpec, count_tokens: CountTokens) -> list[Chunk]:
    """Chunks in reading order. `chunk.text == document.text[start:end]`; no chunk crosses a section.

    Ids depend on the document's id, the chunk's title and text, the spec and the code: a change elsewhere in the
    document leaves them as they are. Raises InputError for a document without text.
    """
    if not document.text.strip():
        raise InputError(f"{document.id}: has no text to chunk")
    chunks: list[Chunk] = []
    seen: dict[tuple[str, str], int] = {}
    for start, end, heading in _sections(document):
        title = f"{document.title} > {heading}" if heading else document.title
        for begin, stop in _pack(document.text, (start, end), spec, count_tokens):
            text = document.text[begin:stop]
            seen[title, text] = seen.get((title, text), 0) + 1
            parts = [document.id, title, text, seen[title, text], spec.model_dump(), _version()]
            chunks.append(
                Chunk(
                    id=value_digest(parts)[:32],
                    document=document.id,
                    title=title,
                    text=text,
                    start=begin,
                    end=stop,
                    tokens=count_tokens(text),
                    access=document.access,
                    date=document.date,
                )
            )
    return chunks


@lru_cache(maxsize=1)
def _version() -> str:
    return code_version("indexes/chunkers")


def _sections(document: Document) -> Iterator[tuple[int, int, str]]:
    """(start, end, heading) of every section that holds text."""
    starts = [(0, ""), *document.sections]
    ends = [offset for offset, _ in starts[1:]] + [len(document.text)]
    for (start, heading), end in zip(starts, ends, strict=True):
        if document.text[start:end].strip():
            yield start, end, heading


def _pack(text: str, section: Span, spec: ChunkSpec, count: CountTokens) -> Iterator[Span]:
    """Join neighbouring units while they fit the budget; start the next chunk with the allowed overlap."""
    units = list(_units(text, section, 0, spec.max_tokens, count))
    first = 0
    while first < len(units):
        last = first
        while last + 1 < len(units) and count(text[units[first][0] : units[last + 1][1]]) <= spec.max_tokens:
            last += 1
        yield units[first][0], units[last][1]
        if last + 1 == len(units):
            return
        first = _overlap_start(text, units, (first, last), spec, count)


def _overlap_start(text: str, units: list[Span], packed: Span, spec: ChunkSpec, count: CountTokens) -> int:
    """Index of the unit that begins the next chunk: after the packed ones, less as many as the overlap allows.

    The next unit must still fit behind the overlap, so that every chunk adds something new.
    """
    first, last = packed
    start = last + 1
    while (
        start - 1 > first
        and count(text[units[start - 1][0] : units[last][1]]) <= spec.overlap_tokens
        and count(text[units[start - 1][0] : units[last + 1][1]]) <= spec.max_tokens
    ):
        start -= 1
    return start


def _units(text: str, span: Span, level: int, budget: int, count: CountTokens) -> Iterator[Span]:
    """Units of at most `budget` tokens in order: each as large as the levels allow."""
    start, end = _trim(text, span)
    if start == end:
        return
    if level and (count(text[start:end]) <= budget or end - start == 1):
        yield start, end
        return
    splitter = _LEVELS[min(level, len(_LEVELS) - 1)]
    for part in splitter(text, start, end):
        yield from _units(text, part, level + 1, budget, count)


def _blocks(text: str, start: int, end: int) -> list[Span]:
    """Paragraphs, tables, lists and fenced code: parted by empty lines, except inside fences."""
    spans: list[Span] = []
    begin = start
    for gap in _GAP.finditer(text, start, end):
        if _fences(text, begin, gap.start()) % 2 == 0:
            spans.append((begin, gap.start()))
            begin = gap.end()
    spans.append((begin, end))
    return spans


def _fences(text: str, start: int, end: int) -> int:
    return sum(line.startswith(_FENCE) for line in text[start:end].split("\n"))


def _lines(text: str, start: int, end: int) -> list[Span]:
    spans: list[Span] = []
    begin = start
    for line in text[start:end].split("\n"):
        spans.append((begin, begin + len(line)))
        begin += len(line) + 1
    return spans


def _halves(text: str, start: int, end: int) -> list[Span]:
    """Two parts, cut at the white space nearest to the middle, or in the middle of one long word."""
    middle = (start + end) // 2
    before, after = text.rfind(" ", start + 1, middle + 1), text.find(" ", middle, end - 1)
    candidates = [place for place in (before, after) if place > start]
    cut = min(candidates, key=lambda place: abs(place - middle)) if candidates else middle
    return [(start, cut), (cut, end)]


_LEVELS: tuple[Callable[[str, int, int], list[Span]], ...] = (_blocks, _lines, sentence_spans, _halves)


def _trim(text: str, span: Span) -> Span:
    """The span without white space at its ends."""
    start, end = span
    piece = text[start:end]
    if not piece.strip():
        return start, start
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
