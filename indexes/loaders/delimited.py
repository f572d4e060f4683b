"""CSV and plain-text readers: every CSV row becomes one line that repeats the column names."""

import csv
import re

from indexes.loaders.extracted import Extracted, TextBuilder, decode, fold, table_lines
from infra.errors import InputError

_DELIMITERS = ",;\t|"


def read_csv(data: bytes, label: str) -> Extracted:
    """Lines `label, column: value; column: value`. Raises InputError naming the first row that does not fit."""
    text = decode(data)
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        raise InputError(f"not readable as CSV ({error}): check its quotes") from error
    if len(rows) < 2:
        raise InputError("holds no row below its header")
    header = [fold(name) for name in rows[0]]
    if len(set(header)) < len(header) or not all(header):
        raise InputError("its first row must name every column once")
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(header):
            raise InputError(f"row {number} has {len(row)} fields, the header {len(header)}")
    builder = TextBuilder()
    builder.lines(table_lines([[name.replace("_", " ") for name in header], *rows[1:]], label))
    return builder.build()


def read_plain(data: bytes) -> Extracted:
    """Paragraphs of a text file; lines that begin like list items stay lines."""
    builder = TextBuilder()
    for block in re.split(r"\n\s*\n", decode(data)):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if sum(bool(re.match(r"(\d{1,3}[.)]|[-•*])\s", line)) for line in lines) > 1:
            builder.lines(lines)
        else:
            builder.paragraph(block)
    return builder.build()
