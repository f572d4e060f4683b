"""Table rows as the loaders write them (`label, column: value; column: value`), and questions on their cells."""

import re
from collections.abc import Sequence

from infra.store import text_digest
from models.training.grammar import PAST, SINGULAR
from models.training.patterns import MEASURE, NUMBER, TIME

Row = list[tuple[str, str]]
"""(column, value) of each cell of a table row."""


def cells_of(line: str) -> Row:
    """(column, value) of a table row written as `label, column: value; column: value`; empty if it is none."""
    parts = [cell.partition(": ") for cell in line.strip().split("; ")]
    if len(parts) < 2 or not all(middle and value.strip() and len(name) < 60 for name, middle, value in parts):
        return []
    cells = [(name.strip(), value.strip()) for name, _, value in parts]
    cells[0] = (cells[0][0].rpartition(", ")[2], cells[0][1])
    return cells


def key_width(cells: Row, rows: Sequence[Row]) -> int:
    """How many leading columns name a row: the fewest whose values no other row of these columns shares; 0 if none."""
    names = [name for name, _ in cells]
    peers = [row for row in rows if [name for name, _ in row] == names]
    for width in range(1, min(3, len(cells))):
        if sum(row[:width] == cells[:width] for row in peers) <= 1:
            return width
    return 0


NO_NOUN = {"who", "what", "when", "where", "how", "why", "which", "number", "each", "every"}
DANGLING = {"after", "at", "by", "from", "to", "until", "for", "on", "in", "of", "with", *PAST}


def column_name(name: str) -> str | None:
    """A column's name as it stands in a question, or None for one that is no noun phrase ("Replaced after")."""
    bare = re.sub(r"\s*\([^)]*\)", "", name).replace("_", " ").strip()
    words = bare.split()
    if not words or words[0].lower() in NO_NOUN or words[-1].lower() in DANGLING or words[-1].endswith("ed"):
        return None
    if re.search(r"\d", bare) or (len(words) == 1 and bare.lower() in SINGULAR):
        return None
    return bare if bare[:2].isupper() else bare[:1].lower() + bare[1:]


def asked_cell(name: str, value: str, subject: str) -> str | None:
    """The question for one cell of a row, in one of several wordings fixed by its own text."""
    verb = SINGULAR.get(name.lower())
    if verb and re.match(TIME, value):
        return f"When does {subject} {verb}?"
    column = column_name(name)
    if column is None:
        return None
    column = re.sub(rf"(?<=\w) {MEASURE}$", "", column)
    is_plural = column.endswith(("s", "people")) and not column.endswith("ss")
    if is_plural and re.fullmatch(NUMBER, value):
        return f"How many {column} does {subject} have?"
    be = "are" if is_plural else "is"
    wordings = [
        f"What {be} the {column} for {subject}?",
        f"What {be} the {column} of {subject}?",
        f"Which {column} does the table give for {subject}?",
        f"For {subject}, what {be} the {column}?",
    ]
    return wordings[int(text_digest(f"{column} {subject}")[:4], 16) % len(wordings)]
