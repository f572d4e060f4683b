"""The files of a DiskANN index: the graph that the library writes, and the codes, which are made here.

The library learns its codes from a sample that it draws anew each time, so no two builds have the same bytes. Product
quantization by FAISS from a fixed seed, in the library's format, gives the same bytes for the same vectors; the graph,
built with one thread, has the same bytes anyway. Formats: those that diskannpy-rust 0.49.1 writes and reads.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.types import Vectors
from indexes.vectors.kinds import library
from infra.errors import IntegrityError

PREFIX = "diskann"
GRAPH, PIVOTS, CODES = (f"{PREFIX}_{name}" for name in ("disk.index", "pq_pivots.bin", "pq_compressed.bin"))
FILES = (GRAPH, PIVOTS, CODES)
SECTOR = 4_096
"""Bytes that are read from the disk at once."""
_CENTROIDS = 256
_SEED = 1234
_ROUNDS = 10
_SAMPLE = 64
"""Vectors a centroid is learned from, at most."""
_BLOCK = 65_536


def write_vectors(file: Path, vectors: Vectors) -> None:
    """Write vectors as the library reads them: rows and dimension (uint32), then float32, all little-endian."""
    with file.open("wb") as stream:
        np.array(vectors.shape, "<u4").tofile(stream)
        np.ascontiguousarray(vectors, "<f4").tofile(stream)


def write_codes(folder: Path, vectors: Vectors, size: int) -> None:
    """Learn and write codes of `size` bytes a vector, in place of those of the library."""
    faiss = library()
    faiss.omp_set_num_threads(1)
    rows, dimension = vectors.shape
    quantizer = faiss.ProductQuantizer(dimension, size, 8)
    learning = quantizer.cp
    learning.seed, learning.niter = _SEED, _ROUNDS
    learning.min_points_per_centroid, learning.max_points_per_centroid = 1, _SAMPLE
    quantizer.train(vectors)
    parts = faiss.vector_to_array(quantizer.centroids).reshape(size, _CENTROIDS, dimension // size)
    pivots = parts.transpose(1, 0, 2).reshape(_CENTROIDS, dimension)
    _write_pivots(folder / PIVOTS, np.ascontiguousarray(pivots, "<f4"), size)
    with (folder / CODES).open("wb") as stream:
        np.array([rows, size], "<u4").tofile(stream)
        for start in range(0, rows, _BLOCK):
            quantizer.compute_codes(vectors[start : start + _BLOCK]).tofile(stream)


def _write_pivots(file: Path, pivots: Vectors, size: int) -> None:
    """Centroids of all parts side by side, a middle of zeros that is taken from none, and where each part begins.

    Each is an array with rows and columns (int32) before it; the first says where the others and the end are.
    """
    dimension = pivots.shape[1]
    begins = np.linspace(0, dimension, size + 1).astype("<u4")
    arrays = [_array(pivots), _array(np.zeros((dimension, 1), "<f4")), _array(begins[:, None])]
    offsets = np.cumsum([SECTOR, *(len(array) for array in arrays)]).astype("<u8")
    file.write_bytes(_array(offsets[:, None]).ljust(SECTOR, b"\0") + b"".join(arrays))


def _array(values: Vectors | NDArray[np.unsignedinteger[Any]]) -> bytes:
    return np.array(values.shape, "<i4").tobytes() + values.tobytes()


def read_shape(folder: Path) -> tuple[int, int]:
    """(rows, dimension) of the index in `folder`.

    Raises IntegrityError when a file is missing, cut or of another index.
    """
    try:
        with (folder / GRAPH).open("rb") as stream:
            head = np.frombuffer(stream.read(SECTOR)[8:80], "<u8").tolist()
        with (folder / CODES).open("rb") as stream:
            rows, size = np.frombuffer(stream.read(8), "<u4").tolist()
        graph, pivots, codes = ((folder / name).stat().st_size for name in FILES)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{folder}: no DiskANN index, or a damaged one; build the index again") from error
    dimension = head[1] if len(head) == 9 else 0
    wanted = SECTOR + (8 + 4 * _CENTROIDS * dimension) + (8 + 4 * dimension) + (8 + 4 * (size + 1))
    if len(head) < 9 or (head[0], head[8]) != (rows, graph) or pivots != wanted or codes != 8 + rows * size:
        raise IntegrityError(f"{folder}: the files of the DiskANN index are damaged; build the index again")
    return rows, dimension
