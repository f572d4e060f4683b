"""Headers of pipe tables: a chunk that begins inside a table keeps the header that names its columns."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from indexes.chunkers.port import Span

_RULE = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$", re.MULTILINE)
_ROW = re.compile(r"\n[^\n]*\|[^\n]*")


class Table(NamedTuple):
    """A pipe table: its header (names and the rule below them) and where its last row ends."""

    start: int
    body: int
    end: int


def pipe_tables(text: str) -> list[Table]:
    """Tables of a text in order: a line with pipes, a line of dashes and pipes, and the rows up to a line without."""
    found: list[Table] = []
    for rule in _RULE.finditer(text):
        start = text.rfind("\n", 0, max(rule.start() - 1, 0)) + 1
        if rule.start() == 0 or "|" not in rule.group() or "|" not in text[start : rule.start()]:
            continue
        end = rule.end()
        while row := _ROW.match(text, end):
            end = row.end()
        found.append(Table(start, rule.end(), end))
    return found


def header_of(tables: Sequence[Table], start: int) -> Span | None:
    """The header of the table that goes on at `start`, without the rule's end; None outside of the rows of a table."""
    place = bisect_right(tables, start, key=lambda table: table.body) - 1
    if place < 0 or not tables[place].body <= start < tables[place].end:
        return None
    return tables[place].start, tables[place].body
