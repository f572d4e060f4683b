"""What every adapter keeps of its updates: which rows were removed, how many there were when the index was built."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from indexes.types import Vectors
from indexes.vectors.port import Mask, Rows
from infra.errors import InputError, IntegrityError
from infra.settings import Spec
from infra.store import canonical_json, write_atomic

UPDATES = "updates.json"
EXACT_ROWS = 2_000
"""With so few allowed rows a scan of them is exact and as fast as the index."""


class Updates(Spec):
    """updates.json: what changed since the index was built; a folder without it has no updates."""

    built: int
    """Rows when it was built."""
    removed: tuple[int, ...]
    """Rows that no search finds."""


def read_updates(folder: Path, rows: int) -> Updates:
    """The updates of an index of `rows` rows. Raises IntegrityError."""
    file = folder / UPDATES
    if not file.exists():
        return Updates(built=rows, removed=())
    try:
        updates = Updates.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{file}: damaged; build the index again") from error
    if not 0 <= updates.built <= rows or any(not 0 <= row < rows for row in updates.removed):
        raise IntegrityError(f"{file}: not the updates of this index; build the index again")
    return updates


def write_updates(folder: Path, built: int, removed: Mask) -> None:
    """Write the updates of an index whose rows are those of `removed`; no file where there are none."""
    updates = Updates(built=built, removed=tuple(np.flatnonzero(removed).tolist()))
    if updates.removed or built < len(removed):
        write_atomic(folder / UPDATES, canonical_json(updates.model_dump(mode="json")) + "\n")
    else:
        (folder / UPDATES).unlink(missing_ok=True)


def removed_rows(updates: Updates, rows: int) -> Mask:
    """The removed rows as a mask of `rows` rows."""
    removed = np.zeros(rows, np.bool_)
    removed[list(updates.removed)] = True
    return removed


def remove_rows(removed: Mask, rows: Rows) -> None:
    """Mark `rows` in `removed`. Raises InputError for a row that is not there."""
    asked = np.asarray(rows, np.int64)
    strange = asked[(asked < 0) | (asked >= len(removed))]
    if strange.size:
        raise InputError(f"row {strange[0]} cannot be removed: the index has rows 0 to {len(removed) - 1}")
    removed[asked] = True


def open_rows(allowed: Mask | None, removed: Mask) -> Mask | None:
    """The rows that may be found; None for all. Raises InputError for a mask of another length."""
    if allowed is not None and allowed.shape != removed.shape:
        raise InputError(f"the mask has shape {allowed.shape}, the index {len(removed)} rows")
    if not removed.any():
        return allowed
    return ~removed if allowed is None else allowed & ~removed


def matrix(vectors: Vectors) -> Vectors:
    """Vectors as adapters take them: contiguous float32. Raises InputError for another shape than (n, dimension)."""
    if vectors.ndim != 2 or not vectors.size:
        raise InputError(f"an index needs vectors of shape (n, dimension), not {vectors.shape}")
    return np.ascontiguousarray(vectors, np.float32)


def joining(vectors: Vectors, dimension: int) -> Vectors:
    """Vectors that are added to an index, see `matrix`. Raises InputError for another dimension too."""
    rows = matrix(vectors)
    if rows.shape[1] != dimension:
        raise InputError(f"vectors of {rows.shape[1]} numbers cannot join an index of {dimension}")
    return rows


def check_query(query: Vectors, dimension: int) -> None:
    """Raise InputError for a query that the index cannot be asked."""
    if query.shape != (dimension,):
        raise InputError(f"the query has shape {query.shape}, the index vectors of {dimension} numbers")


def replace_file(file: Path, write: Callable[[Path], object]) -> None:
    """Write beside `file`, then put it in its place: whoever has the old one open or mapped keeps it."""
    fresh = file.with_name(f".new-{file.name}")
    try:
        write(fresh)
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
