"""The vectors themselves, in memory or in a mapped file: taken by row, and searched exactly."""

from pathlib import Path
from typing import Self

import numpy as np

from indexes.types import Vectors
from indexes.vectors.port import Rows
from infra.errors import IntegrityError

VECTORS = "vectors.npy"
_BLOCK = 65_536
"""Rows that are scored at once."""


class StoredVectors:
    """Vectors of shape (n, dimension), float32, in blocks one after the other."""

    def __init__(self, vectors: Vectors) -> None:
        self._blocks = [vectors]

    def __len__(self) -> int:
        return sum(len(block) for block in self._blocks)

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return int(self._blocks[0].shape[1])

    def append(self, vectors: Vectors) -> None:
        """Put `vectors` behind the last row."""
        self._blocks.append(vectors)

    def take(self, rows: Rows) -> Vectors:
        """The vectors of `rows`, shape (rows, dimension), as a copy."""
        if len(self._blocks) == 1:
            return self._blocks[0][rows]
        starts = np.cumsum([0, *(len(block) for block in self._blocks)])
        places = np.searchsorted(starts, rows, side="right") - 1
        taken = np.empty((len(rows), self.dimension), np.float32)
        for number, block in enumerate(self._blocks):
            inside = places == number
            taken[inside] = block[rows[inside] - starts[number]]
        return taken

    def best(self, query: Vectors, k: int, rows: Rows | None = None) -> tuple[Rows, Vectors]:
        """The best `k` of `rows` (None: of all) by inner product, best first; ties go to the lower row."""
        among = np.arange(len(self), dtype=np.int64) if rows is None else rows
        whole = rows is None and len(self._blocks) == 1
        scores = np.empty(len(among), np.float32)
        for start in range(0, len(among), _BLOCK):
            end = start + _BLOCK
            block = self._blocks[0][start:end] if whole else self.take(among[start:end])
            scores[start:end] = block @ query
        if 0 < k < len(scores):
            kept = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
            among, scores = among[kept], scores[kept]
        order = np.lexsort((among, -scores))[:k]
        return among[order], scores[order]

    def save(self, file: Path) -> None:
        """Write as one NumPy array, little-endian float32. Raises OSError."""
        shape = (len(self), self.dimension)
        with file.open("wb") as stream:
            np.lib.format.write_array_header_1_0(
                stream,
                {"descr": "<f4", "fortran_order": False, "shape": shape},
            )
            for block in self._blocks:
                for start in range(0, len(block), _BLOCK):
                    np.ascontiguousarray(block[start : start + _BLOCK], "<f4").tofile(stream)

    @classmethod
    def open(cls, file: Path) -> Self:
        """Map a saved file. Raises IntegrityError."""
        return cls(map_vectors(file))


def map_vectors(file: Path) -> Vectors:
    """The vectors of a saved file, shape (n, dimension), read from it as needed. Raises IntegrityError."""
    try:
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file}: missing or damaged; build the index again") from error
    if mapped.ndim != 2 or mapped.dtype != np.dtype("<f4"):
        raise IntegrityError(f"{file}: holds {mapped.dtype} of shape {mapped.shape}; build the index again")
    return np.asarray(mapped)
