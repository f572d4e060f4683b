"""PDF reader: pages as sections, lines joined to paragraphs, aligned columns read as table rows.

pypdf's layout mode keeps the columns of a page apart by spaces; a table is two or more neighbouring lines that fall
into the same columns. This reads the tables of ordinary letters and price lists; it is no general table recognizer.
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from indexes.loaders.extracted import Extracted, TextBuilder, fold, table_lines
from indexes.loaders.pdf_spaces import page_text
from infra.errors import InputError

_CELL = re.compile(r"\S+(?:\s\S+)*")
_LISTED = re.compile(r"(\d{1,3}[.)]|[-•–*]|\([a-z\d]{1,3}\))\s+\S")
_LEADERS = re.compile(r"(?:\s*\.){5,}\s*")
"""The dots that lead from a heading to its page number."""
_SENTENCE_END = (".", "!", "?", ":", ";")
_SHORT = 0.75
"""A line that ends a sentence before this share of the page's width ends its paragraph."""
_HEADING_CHARACTERS = 80
_SLACK = 2
"""Columns by which layout mode may misplace a cell."""


class Cell(NamedTuple):
    """A run of words with its place in the line."""

    start: int
    end: int
    text: str


def read_pdf(data: bytes) -> Extracted:
    """Text of a PDF with its own text layer. Raises InputError when it is encrypted, damaged or only pictures."""
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError("encrypted: store it without a password")
        pages = [page_text(page) for page in reader.pages]
        title = fold(str(reader.metadata.title or "") if reader.metadata else "")
    except PyPdfError as error:
        raise InputError("damaged PDF: export it again") from error
    if not any(page.strip() for page in pages):
        raise InputError("no text layer: run text recognition (OCR) on it first")
    if title.lower() in ("untitled", "(anonymous)", "anonymous"):
        title = ""
    return read_pages(pages, title)


def read_pages(pages: Sequence[str], title: str) -> Extracted:
    """Lay out the pages' text (layout mode) under headings `heading (page n)`."""
    builder = TextBuilder()
    heading = ""
    bodies = _without_running_lines([[_without_leaders(line.rstrip()) for line in page.split("\n")] for page in pages])
    for number, lines in enumerate(bodies, 1):
        following = next((line.strip() for body in bodies[number:] for line in body if line.strip()), "")
        heading = _Page(lines, number, following).add_to(builder, heading, title)
    result = builder.build()
    return result.model_copy(update={"title": title or result.title})


def _without_leaders(line: str) -> str:
    """A line of a table of contents as plain words: its dots are neither text nor columns."""
    return fold(_LEADERS.sub(" ", line)) if _LEADERS.search(line) else line


def _without_running_lines(pages: list[list[str]]) -> list[list[str]]:
    """Drop headers and footers: a first or last line that stands on most pages, whatever its numbers are."""
    edges = [[index for index, line in enumerate(lines) if line.strip()] for lines in pages]
    marks = [
        {re.sub(r"\d+", "#", fold(lines[index])) for index in (used[:1] + used[-1:])}
        for lines, used in zip(pages, edges, strict=True)
    ]
    counts = Counter(mark for found in marks for mark in found)
    running = {mark for mark, count in counts.items() if count >= 2 and 2 * count > len(pages)}
    return [
        [
            "" if index in used[:1] + used[-1:] and re.sub(r"\d+", "#", fold(line)) in running else line
            for index, line in enumerate(lines)
        ]
        for lines, used in zip(pages, edges, strict=True)
    ]


class _Page:
    """One page being read from top to bottom."""

    def __init__(self, lines: list[str], number: int, following: str) -> None:
        self.lines = lines
        self.number = number
        self.following = following
        self.width = max((len(line.strip()) for line in lines), default=0)

    def add_to(self, builder: TextBuilder, heading: str, title: str) -> str:
        """Add the page's blocks under `heading`; returns the heading that is open at its end."""
        position, first, opened = 0, True, False
        while position < len(self.lines):
            if not self.lines[position].strip():
                position += 1
                continue
            if _is_heading(self.lines, position, self.following):
                text = fold(self.lines[position])
                position += 1
                if text != title:
                    heading, opened = text, False
                continue
            block, after = self._block(position)
            if not (first and self.number > 1 and builder.extend_last(block[0])):
                if not opened:
                    builder.section(f"{heading} (page {self.number})" if heading else f"page {self.number}")
                builder.lines(block)
                opened = True
            position, first = after, False
        return heading

    def _block(self, position: int) -> tuple[list[str], int]:
        """The lines of the table, list or paragraph at `position`, and the line after it."""
        rows, after = _table(self.lines, position)
        if rows:
            return table_lines(rows), after
        text, after = _paragraph(self.lines, position, self.width)
        block = [text]
        while _LISTED.match(text):
            following = next((index for index in range(after, len(self.lines)) if self.lines[index].strip()), None)
            if following is None or not _LISTED.match(self.lines[following].strip()):
                break
            item, after = _paragraph(self.lines, following, self.width)
            block.append(item)
        return block, after


def _cells(line: str) -> list[Cell]:
    return [Cell(found.start(), found.end(), fold(found.group())) for found in _CELL.finditer(line)]


def _table(lines: Sequence[str], position: int) -> tuple[list[list[str]], int]:
    """Rows of the table that starts at `position` and the line after it; no rows where no table starts."""
    header = _cells(lines[position])
    if len(header) < 2 or _LISTED.match(lines[position].strip()):
        return [], position
    starts = [cell.start for cell in header]
    rows = [[cell.text for cell in header]]
    full, gap, after = 1, False, position + 1
    while after < len(lines):
        cells = _cells(lines[after])
        if not cells:
            gap = True
        elif not _fits(cells, starts):
            break
        elif len(cells) == len(starts) or (len(cells) > 1 and _column(cells[0], starts) == 0):
            rows.append(_placed(cells, starts))
            full, gap = full + 1, False
        elif gap:
            break
        else:
            rows[-1] = [fold(f"{old} {new}") for old, new in zip(rows[-1], _placed(cells, starts), strict=True)]
        after += 1
    return (rows, after) if full > 1 else ([], position)


def _column(cell: Cell, starts: Sequence[int]) -> int:
    """The last column that begins at or before the cell."""
    return max((index for index, start in enumerate(starts) if start <= cell.start + _SLACK), default=0)


def _fits(cells: Sequence[Cell], starts: Sequence[int]) -> bool:
    """Whether a line falls into the columns: as many cells as columns, or each within its own column."""
    if len(cells) == len(starts):
        return True
    columns = [_column(cell, starts) for cell in cells]
    if len(set(columns)) < len(cells):
        return False
    ends = [*starts[1:], 10**6]
    inside = all(cell.end <= ends[column] for cell, column in zip(cells, columns, strict=True))
    return inside and all(
        abs(cell.start - starts[column]) <= _SLACK for cell, column in zip(cells, columns, strict=True)
    )


def _placed(cells: Sequence[Cell], starts: Sequence[int]) -> list[str]:
    if len(cells) == len(starts):
        return [cell.text for cell in cells]
    row = [""] * len(starts)
    for cell in cells:
        row[_column(cell, starts)] = cell.text
    return row


def _is_heading(lines: Sequence[str], position: int, next_page: str) -> bool:
    """A short line without closing punctuation, begun with a capital, that neither continues nor lists anything."""
    line = lines[position].strip()
    before = lines[position - 1].strip() if position else ""
    following = next((other.strip() for other in lines[position + 1 :] if other.strip()), next_page)
    return (
        len(line) <= _HEADING_CHARACTERS
        and len(_cells(line)) == 1
        and not line.endswith((*_SENTENCE_END, ","))
        and line[0].isupper()
        and not _LISTED.match(line)
        and (not before or before.endswith(_SENTENCE_END))
        and bool(following)
        and not following[0].islower()
    )


def _paragraph(lines: Sequence[str], position: int, width: int) -> tuple[str, int]:
    """The paragraph or list item that starts at `position`, as one line, and the line after it."""
    words = lines[position].strip()
    after = position + 1
    while after < len(lines):
        last, line = lines[after - 1].strip(), lines[after].strip()
        if not line or _LISTED.match(line) or len(_cells(line)) > 1:
            break
        if last.endswith(_SENTENCE_END) and len(last) < _SHORT * width:
            break
        hyphenated = words.endswith("-") and words[-2:-1].isalpha() and line[0].islower()
        words = words[:-1] + line if hyphenated else f"{words} {line}"
        after += 1
    return fold(words), after
