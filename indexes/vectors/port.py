"""Port of vector indexes, and the search that is exact over a few allowed rows."""

from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from indexes.types import Vectors

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


class VectorIndex(Protocol):
    """Rows of unit vectors, found by inner product. Adapters: `indexes/vectors/faiss.py`.

    The mask is applied before ranking: a row that is not allowed is never among the results, and the best allowed
    rows are found however few they are.
    """

    def build(self, vectors: Vectors) -> None:
        """Take vectors of shape (n, dimension) as rows 0..n-1, in place of what was there."""
        ...

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """Rows and inner products of the best `k` allowed rows, best first; fewer if fewer are allowed."""
        ...

    def save(self, file: Path) -> None:
        """Write the index; the same vectors give the same bytes."""
        ...

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a saved index. Raises IntegrityError when the file is no index of this kind."""
        ...


def exact_search(vectors: Vectors, rows: Rows, query: Vectors, k: int) -> tuple[Rows, Vectors]:
    """The best `k` of `rows` (whose vectors are given) by inner product; ties go to the lower row."""
    scores = vectors @ query
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order].astype(np.float32)
