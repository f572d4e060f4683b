"""The adapter of each kind of vector index, in one place."""

from pathlib import Path

from indexes.vectors.diskann import DiskIndex
from indexes.vectors.faiss import FaissIndex
from indexes.vectors.port import VectorIndex
from indexes.vectors.spec import VectorSpec


def new_index(spec: VectorSpec) -> VectorIndex:
    """An empty index of the spec's kind, to be built."""
    return _adapter(spec)(spec)


def open_index(folder: Path, spec: VectorSpec) -> VectorIndex:
    """The index of the spec's kind that was saved in `folder`. Raises what VectorIndex.load raises."""
    return _adapter(spec).load(folder, spec)


def _adapter(spec: VectorSpec) -> type[DiskIndex] | type[FaissIndex]:
    return DiskIndex if spec.kind == "diskann" else FaissIndex
