"""Rows from elsewhere than rules (files, feedback, a teacher) on disk, with what was refused on the way."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from infra.settings import Spec
from infra.store import read_lines, write_lines
from models.training.curation import Refused
from models.training.rows import PreferenceRow, TrainingRow

HasPersonal = Callable[[str], bool]
"""Whether a text holds personal data."""
ROWS = "rows.jsonl"
REFUSED = "refused.jsonl"


class GatheredRow(Spec):
    """A row or pair, and the documents that it was made from, where that is known."""

    row: TrainingRow | PreferenceRow
    documents: tuple[str, ...] = ()


class Gathered(NamedTuple):
    """What one source gave."""

    rows: list[GatheredRow]
    refused: list[Refused]


def write_gathered(folder: Path, gathered: Gathered) -> None:
    """Write both parts, empty ones too."""
    write_lines(folder / ROWS, gathered.rows)
    write_refused(folder, gathered.refused)


def write_refused(folder: Path, refused: Iterable[Refused]) -> None:
    """A line for each row that is not learnt from."""
    write_lines(folder / REFUSED, refused)


def read_gathered(folder: Path) -> Gathered:
    """What `write_gathered` wrote. Raises InputError naming file and line of the first bad row."""
    return Gathered(
        rows=list(read_lines(folder / ROWS, GatheredRow)), refused=list(read_lines(folder / REFUSED, Refused))
    )
