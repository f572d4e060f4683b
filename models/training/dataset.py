"""A dataset on disk: rows to learn from, rows that early stopping looks at, and the same of preference pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from infra.store import read_lines, write_lines
from models.training.rows import PreferenceRow, TrainingRow

ROWS = "rows.jsonl"
VALIDATION = "validation.jsonl"
PAIRS = "pairs.jsonl"
VALIDATION_PAIRS = "validation-pairs.jsonl"


class Dataset(NamedTuple):
    """What a training run reads. The parts share no source document."""

    rows: Sequence[TrainingRow]
    """Learnt from by supervised fine-tuning and distillation."""
    validation: Sequence[TrainingRow] = ()
    """Measured while training runs; may be empty: then nothing stops early."""
    pairs: Sequence[PreferenceRow] = ()
    """Learnt from by preference optimization; may be empty."""
    validation_pairs: Sequence[PreferenceRow] = ()


def write_dataset(folder: Path, dataset: Dataset) -> None:
    """Write every part, empty ones too."""
    write_lines(folder / ROWS, dataset.rows)
    write_lines(folder / VALIDATION, dataset.validation)
    write_lines(folder / PAIRS, dataset.pairs)
    write_lines(folder / VALIDATION_PAIRS, dataset.validation_pairs)


def read_dataset(folder: Path) -> Dataset:
    """The dataset in `folder`. Raises InputError naming file and line of the first bad row."""
    return Dataset(
        rows=list(read_lines(folder / ROWS, TrainingRow)),
        validation=list(read_lines(folder / VALIDATION, TrainingRow)),
        pairs=list(read_lines(folder / PAIRS, PreferenceRow)),
        validation_pairs=list(read_lines(folder / VALIDATION_PAIRS, PreferenceRow)),
    )
