"""FAISS adapter of the vector port: every kind of VectorSpec, with updates as tombstones and additions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from indexes.types import Vectors
from indexes.vectors import kinds
from indexes.vectors.port import Mask, Rows
from indexes.vectors.spec import EXACT, MAPPED, QUANTIZED, TRAINED, Kind, VectorSpec
from indexes.vectors.stored import VECTORS, StoredVectors
from infra.errors import InputError, IntegrityError, SetupError
from infra.settings import Spec
from infra.store import canonical_json, write_atomic

UPDATES = "updates.json"
_EXACT_ROWS = 2_000
"""With so few allowed rows a scan of them is exact and as fast as the index."""


class Updates(Spec):
    """updates.json: what changed since the index was built; a folder without it has no updates."""

    built: int
    """Rows when it was built."""
    removed: tuple[int, ...]
    """Rows that no search finds."""


class FaissIndex:
    """One index of any kind.

    HNSW is the navigable small-world graph of Malkov and Yashunin (2016). Kinds that hold codes find k × refine
    candidates and rank them by the stored vectors, which a loaded index maps from their file. No kind ever finds a
    forbidden row; with more allowed rows than are scanned exactly, kinds that approximate do so behind a mask as well,
    and miss most where it shuts what is nearest to the question.
    """

    def __init__(self, spec: VectorSpec) -> None:
        self.spec = spec
        self._index: Any = None
        self._stored: StoredVectors | None = None
        """Vectors beside the codes of a quantized kind; the other kinds hold them in the FAISS index."""
        self._removed = np.zeros(0, np.bool_)
        self._built = 0
        self._growing = True
        """False while the FAISS index is mapped and cannot take rows."""

    @property
    def count(self) -> int:
        """See VectorIndex."""
        return len(self._removed)

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return int(self._index.d)

    @property
    def needs_rebuild(self) -> bool:
        """See VectorIndex. Rows added to an IVF index count too: its centroids do not know them."""
        added = self.count - self._built if self.spec.kind in TRAINED else 0
        return int(self._removed.sum()) + added >= self.spec.rebuild_share * self.count

    def build(self, vectors: Vectors) -> None:
        """See VectorIndex."""
        rows = _matrix(vectors)
        self.spec.check(*rows.shape)
        self._index = kinds.make(self.spec, rows)
        self._stored = StoredVectors(rows) if self.spec.kind in QUANTIZED else None
        self._removed = np.zeros(len(rows), np.bool_)
        self._built, self._growing = len(rows), True

    def add(self, vectors: Vectors) -> Rows:
        """See VectorIndex. The first addition to a mapped index reads it into memory."""
        rows = _matrix(vectors)
        if rows.shape[1] != self.dimension:
            raise InputError(f"vectors of {rows.shape[1]} numbers cannot join an index of {self.dimension}")
        if not self._growing:
            self._index, self._growing = kinds.in_memory(self._index), True
        kinds.library().omp_set_num_threads(1)
        self._index.add(rows)
        if self._stored is not None:
            self._stored.append(rows)
        first = self.count
        self._removed = np.concatenate([self._removed, np.zeros(len(rows), np.bool_)])
        return np.arange(first, self.count, dtype=np.int64)

    def remove(self, rows: Rows) -> None:
        """See VectorIndex."""
        asked = np.asarray(rows, np.int64)
        strange = asked[(asked < 0) | (asked >= self.count)]
        if strange.size:
            raise InputError(f"row {strange[0]} cannot be removed: the index has rows 0 to {self.count - 1}")
        self._removed[asked] = True

    def rebuild(self) -> Rows:
        """See VectorIndex."""
        kept = np.flatnonzero(~self._removed).astype(np.int64)
        self.build(self._vectors().take(kept))
        return kept

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """See VectorIndex. Few allowed rows, or too few found through the index: exact over the allowed rows."""
        if query.shape != (self.dimension,):
            raise InputError(f"the query has shape {query.shape}, the index vectors of {self.dimension} numbers")
        mask = self._open(allowed)
        opened = self.count if mask is None else int(mask.sum())
        if self.spec.kind not in EXACT and opened > max(_EXACT_ROWS, k):
            depth = min(self.spec.depth(k, behind_mask=opened < self.count), opened)
            asked = kinds.parameters(self.spec, self._index, depth, mask)
            scores, rows = self._index.search(np.ascontiguousarray(query[None]), depth, params=asked)
            found = rows[0] >= 0
            if found.sum() >= k:
                return self._ranked(query, k, rows[0][found], scores[0][found])
        return self._vectors().best(query, k, None if mask is None else np.flatnonzero(mask).astype(np.int64))

    def save(self, folder: Path) -> None:
        """See VectorIndex. A folder that this index is mapped from may be written to: files are replaced."""
        faiss = kinds.library()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(_file(folder, self.spec.kind), lambda file: faiss.write_index(self._index, str(file)))
            _replace(folder / VECTORS, self._vectors().save)
            updates = Updates(built=self._built, removed=tuple(np.flatnonzero(self._removed).tolist()))
            if updates.removed or self._built < self.count:
                write_atomic(folder / UPDATES, canonical_json(updates.model_dump(mode="json")) + "\n")
            else:
                (folder / UPDATES).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            raise SetupError(f"{folder}: the index cannot be written: {error}") from error

    @classmethod
    def load(cls, folder: Path, spec: VectorSpec) -> Self:
        """See VectorIndex."""
        loaded = cls(spec)
        loaded._index = kinds.read(spec.kind, _file(folder, spec.kind))
        loaded._growing = spec.kind not in MAPPED
        rows = int(loaded._index.ntotal)
        if spec.kind in QUANTIZED:
            loaded._stored = StoredVectors.open(folder / VECTORS)
            if (len(loaded._stored), loaded._stored.dimension) != (rows, loaded.dimension):
                raise IntegrityError(f"{folder / VECTORS}: not the vectors of this index; build the index again")
        updates = _read_updates(folder / UPDATES, rows)
        loaded._removed = np.zeros(rows, np.bool_)
        loaded._removed[list(updates.removed)] = True
        loaded._built = updates.built
        return loaded

    def _vectors(self) -> StoredVectors:
        if self._stored is not None:
            return self._stored
        return StoredVectors(kinds.vectors_in(self._index, self.spec.kind))

    def _open(self, allowed: Mask | None) -> Mask | None:
        """The rows that may be found; None for all."""
        if allowed is not None and allowed.shape != (self.count,):
            raise InputError(f"the mask has shape {allowed.shape}, the index {self.count} rows")
        if not self._removed.any():
            return allowed
        return ~self._removed if allowed is None else allowed & ~self._removed

    def _ranked(self, query: Vectors, k: int, rows: Rows, scores: Vectors) -> tuple[Rows, Vectors]:
        if self._stored is not None:
            return self._stored.best(query, k, np.sort(rows))
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]


def _matrix(vectors: Vectors) -> Vectors:
    if vectors.ndim != 2 or not vectors.size:
        raise InputError(f"an index needs vectors of shape (n, dimension), not {vectors.shape}")
    return np.ascontiguousarray(vectors, np.float32)


def _file(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind}.faiss"


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """Write beside `file`, then put it in its place: whoever has the old one mapped keeps it."""
    fresh = file.with_name(f".new-{file.name}")
    try:
        write(fresh)
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def _read_updates(file: Path, rows: int) -> Updates:
    """Raises IntegrityError."""
    if not file.exists():
        return Updates(built=rows, removed=())
    try:
        updates = Updates.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{file}: damaged; build the index again") from error
    if not 0 <= updates.built <= rows or any(not 0 <= row < rows for row in updates.removed):
        raise IntegrityError(f"{file}: not the updates of this index; build the index again")
    return updates
