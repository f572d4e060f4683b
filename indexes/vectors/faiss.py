"""FAISS adapters of the vector port: Flat (exact) and HNSW (approximate, for many vectors)."""

import importlib
from pathlib import Path
from typing import Any, Self

import numpy as np

from indexes.types import Vectors
from indexes.vectors.port import Mask, Rows, exact_search
from infra.errors import InputError, IntegrityError, SetupError

_EXACT_ROWS = 2_000
"""With so few allowed rows a scan of them is exact and as fast as the graph."""


class FlatIndex:
    """Exact search over all rows."""

    def __init__(self) -> None:
        self._index: Any = None

    def build(self, vectors: Vectors) -> None:
        """See VectorIndex."""
        faiss = _faiss()
        index = faiss.IndexFlatIP(_dimension(vectors))
        index.add(np.ascontiguousarray(vectors))
        self._index = index

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """See VectorIndex."""
        rows = _allowed_rows(self._index.ntotal, allowed)
        return exact_search(_stored(self._index)[rows], rows, query, k)

    def save(self, file: Path) -> None:
        """See VectorIndex."""
        _write(self._index, file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """See VectorIndex."""
        loaded = cls()
        loaded._index = _read(file, "IndexFlat")
        return loaded


class HnswIndex:
    """Search through a navigable small-world graph (Malkov and Yashunin 2016): one thread, a fixed seed."""

    def __init__(self, m: int = 32, ef_construction: int = 200, ef_search: int = 128) -> None:
        """`m` links a row; `ef_construction` and `ef_search` candidates kept while building and searching."""
        self.m = m
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self._index: Any = None

    def build(self, vectors: Vectors) -> None:
        """See VectorIndex."""
        faiss = _faiss()
        faiss.omp_set_num_threads(1)
        index = faiss.IndexHNSWFlat(_dimension(vectors), self.m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        index.hnsw.efSearch = self.ef_search
        index.add(np.ascontiguousarray(vectors))
        self._index = index

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """See VectorIndex. Few allowed rows, or too few found through the graph: exact over the allowed rows."""
        faiss = _faiss()
        rows = _allowed_rows(self._index.ntotal, allowed)
        if len(rows) > max(_EXACT_ROWS, k):
            opened = np.ones(self._index.ntotal, np.bool_) if allowed is None else allowed
            selector = faiss.IDSelectorBitmap(np.packbits(opened, bitorder="little"))
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(self._index.hnsw.efSearch, k))
            scores, found = self._index.search(np.ascontiguousarray(query[None]), k, params=parameters)
            if (found[0] >= 0).all():
                order = np.lexsort((found[0], -scores[0]))
                return found[0][order], scores[0][order]
        storage = faiss.downcast_index(self._index.storage)
        return exact_search(_stored(storage)[rows], rows, query, k)

    def save(self, file: Path) -> None:
        """See VectorIndex."""
        _write(self._index, file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """See VectorIndex."""
        index = _read(file, "IndexHNSWFlat")
        loaded = cls(ef_construction=index.hnsw.efConstruction, ef_search=index.hnsw.efSearch)
        loaded._index = index
        return loaded


def _faiss() -> Any:
    """The module, without its own type stubs: they lack parts that are there."""
    return importlib.import_module("faiss")


def _dimension(vectors: Vectors) -> int:
    if vectors.ndim != 2 or not len(vectors):
        raise InputError(f"an index needs vectors of shape (n, dimension), not {vectors.shape}")
    return int(vectors.shape[1])


def _allowed_rows(count: int, allowed: Mask | None) -> Rows:
    return np.arange(count, dtype=np.int64) if allowed is None else np.flatnonzero(allowed).astype(np.int64)


def _stored(flat: Any) -> Vectors:
    """The rows of a flat FAISS index, shape (n, dimension), without a copy."""
    faiss = _faiss()
    stored: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    return stored


def _write(index: Any, file: Path) -> None:
    faiss = _faiss()
    try:
        file.write_bytes(faiss.serialize_index(index).tobytes())
    except OSError as error:
        raise SetupError(f"{file}: the index cannot be written: {error}") from error


def _read(file: Path, kind: str) -> Any:
    faiss = _faiss()
    try:
        index = faiss.deserialize_index(np.frombuffer(file.read_bytes(), np.uint8))
    except (OSError, RuntimeError) as error:
        raise IntegrityError(f"{file}: not a FAISS index; build the index again") from error
    if not index.__class__.__name__.startswith(kind):
        raise IntegrityError(f"{file}: holds {index.__class__.__name__}, not {kind}; build the index again")
    return index
