"""Port of vector indexes."""

from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from indexes.types import Vectors
from indexes.vectors.spec import VectorSpec

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


class VectorIndex(Protocol):
    """Rows of unit vectors, found by inner product. Adapters: `indexes/vectors/faiss.py`, `diskann.py`.

    The mask is applied before ranking: a row that is not allowed is never among the results, and the best allowed
    rows are found however few they are. A removed row is one that nobody is allowed to see.
    """

    spec: VectorSpec

    @property
    def count(self) -> int:
        """Rows, removed ones included."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        ...

    @property
    def needs_rebuild(self) -> bool:
        """Whether updates have changed as large a share of the rows as the spec's `rebuild_share`."""
        ...

    def build(self, vectors: Vectors) -> None:
        """Take vectors of shape (n, dimension) as rows 0..n-1, in place of what was there.

        Raises: InputError for another shape; PolicyError when the kind cannot index so few or such vectors.
        """
        ...

    def add(self, vectors: Vectors) -> Rows:
        """Append vectors of shape (n, dimension); their row numbers. Raises InputError for another shape."""
        ...

    def remove(self, rows: Rows) -> None:
        """Hide rows from every search; their numbers stay taken. Raises InputError for a row that is not there."""
        ...

    def rebuild(self) -> Rows:
        """Build again from the rows that were not removed; row i is then what row result[i] was."""
        ...

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """Rows and inner products of the best `k` allowed rows, best first, ties by row; fewer if fewer are allowed.

        Raises: InputError when the query has another dimension or the mask another length than the index.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the index and its vectors; the same vectors give the same bytes. Raises SetupError."""
        ...

    @classmethod
    def load(cls, folder: Path, spec: VectorSpec) -> Self:
        """Read a saved index of the spec's kind. Raises IntegrityError when the folder holds none, or a damaged one.

        A damage that keeps the form is found by the artifact store alone: load from the folder that its `open` gives.
        """
        ...
