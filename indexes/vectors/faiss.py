"""FAISS adapter of the vector port: every kind but DiskANN, with updates as tombstones and additions."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from indexes.types import Vectors
from indexes.vectors import kinds
from indexes.vectors.port import Mask, Rows
from indexes.vectors.spec import EXACT, MAPPED, QUANTIZED, TRAINED, Kind, VectorSpec
from indexes.vectors.stored import VECTORS, StoredVectors
from indexes.vectors.updates import (
    EXACT_ROWS,
    check_query,
    joining,
    matrix,
    open_rows,
    read_updates,
    remove_rows,
    removed_rows,
    replace_file,
    write_updates,
)
from infra.errors import IntegrityError, SetupError


class FaissIndex:
    """One index of any of FAISS's kinds.

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
        self._on_gpu: Any = None
        """The copy that searches without a mask ask, where the spec's device is a GPU."""
        self._unmasked: dict[int, Any] = {}
        """Search parameters by depth."""
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
        rows = matrix(vectors)
        self.spec.check(*rows.shape)
        self._index = kinds.make(self.spec, rows)
        self._unmasked = {}
        self._stored = StoredVectors(rows) if self.spec.kind in QUANTIZED else None
        self._removed = np.zeros(len(rows), np.bool_)
        self._built, self._growing = len(rows), True
        self._copy_to_device()

    def add(self, vectors: Vectors) -> Rows:
        """See VectorIndex. The first addition to a mapped index reads it into memory."""
        rows = joining(vectors, self.dimension)
        if not self._growing:
            self._index, self._growing = kinds.in_memory(self._index), True
        kinds.library().omp_set_num_threads(1)
        self._index.add(rows)
        self._copy_to_device()
        if self._stored is not None:
            self._stored.append(rows)
        first = self.count
        self._removed = np.concatenate([self._removed, np.zeros(len(rows), np.bool_)])
        return np.arange(first, self.count, dtype=np.int64)

    def remove(self, rows: Rows) -> None:
        """See VectorIndex."""
        remove_rows(self._removed, rows)

    def rebuild(self) -> Rows:
        """See VectorIndex."""
        kept = np.flatnonzero(~self._removed).astype(np.int64)
        self.build(self._vectors().take(kept))
        return kept

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """See VectorIndex.

        Few allowed rows, too few found through the index, or a tie about the last place: exact over the allowed rows.
        """
        check_query(query, self.dimension)
        mask = open_rows(allowed, self._removed)
        opened = self.count if mask is None else int(mask.sum())
        if opened > max(EXACT_ROWS, k):
            exact = self.spec.kind in EXACT
            depth = k + 1 if exact else min(self.spec.depth(k, behind_mask=opened < self.count), opened)
            scores, rows = self._asked(np.ascontiguousarray(query[None]), depth, mask)
            found = rows[0] >= 0
            if found.sum() >= k and not (exact and scores[0][k - 1] == scores[0][k]):
                return self._ranked(query, k, rows[0][found], scores[0][found])
        return self._vectors().best(query, k, None if mask is None else np.flatnonzero(mask).astype(np.int64))

    def save(self, folder: Path) -> None:
        """See VectorIndex. A folder that this index is mapped from may be written to: files are replaced."""
        faiss = kinds.library()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(_file(folder, self.spec.kind), lambda file: faiss.write_index(self._index, str(file)))
            replace_file(folder / VECTORS, self._vectors().save)
            write_updates(folder, self._built, self._removed)
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
        updates = read_updates(folder, rows)
        loaded._removed = removed_rows(updates, rows)
        loaded._built = updates.built
        loaded._copy_to_device()
        return loaded

    def _vectors(self) -> StoredVectors:
        if self._stored is not None:
            return self._stored
        return StoredVectors(kinds.vectors_in(self._index, self.spec.kind))

    def _copy_to_device(self) -> None:
        self._on_gpu = kinds.on_gpu(self.spec, self._index) if self.spec.device == "gpu" else None

    def _asked(self, query: Vectors, depth: int, mask: Mask | None) -> tuple[Vectors, Rows]:
        """Scores and rows, shape (1, depth), from the copy on the GPU or by the parameters of the kind."""
        if self._on_gpu is not None and mask is None:
            found: tuple[Vectors, Rows] = self._on_gpu.search(query, depth)
            return found
        answer: tuple[Vectors, Rows] = self._index.search(query, depth, params=self._parameters(depth, mask))
        return answer

    def _parameters(self, depth: int, mask: Mask | None) -> Any:
        """Making them takes a twentieth of a search by HNSW: those without a mask are kept."""
        if mask is not None:
            return kinds.parameters(self.spec, self._index, depth, mask)
        if depth not in self._unmasked:
            self._unmasked[depth] = kinds.parameters(self.spec, self._index, depth, None)
        return self._unmasked[depth]

    def _ranked(self, query: Vectors, k: int, rows: Rows, scores: Vectors) -> tuple[Rows, Vectors]:
        if self._stored is not None:
            return self._stored.best(query, k, np.sort(rows))
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]


def _file(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind}.faiss"
