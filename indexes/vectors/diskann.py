"""DiskANN adapter of the vector port: a graph on the disk, searched by a process of its own environment."""

import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

import numpy as np

from indexes.types import Vectors
from indexes.vectors import diskann_client as client
from indexes.vectors.diskann_files import FILES, read_shape, write_codes, write_vectors
from indexes.vectors.port import Mask, Rows
from indexes.vectors.spec import VectorSpec
from indexes.vectors.stored import VECTORS, StoredVectors, map_vectors
from indexes.vectors.updates import (
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

_SCANNED = 16
"""Rows that are scanned in the time in which the graph reads one from the disk, at least (about 30 were, in memory)."""
_DEPTH = 12
"""Candidates a place of the result: without a mask they are 128 for ten, and the last places of a search are wrong."""
_DEEPER = 4


class DiskIndex:
    """Vamana graph on the disk with product-quantized codes in memory (Subramanya and others 2019).

    The graph cannot change. Removed rows are tombstones, and added ones lie beside it and are scanned, until
    `needs_rebuild` asks for a new one. Behind a mask the search goes deeper, and what it finds is filtered; where few
    rows are open or too few were found, the open rows are scanned. One search at a time.
    """

    def __init__(self, spec: VectorSpec) -> None:
        self.spec = spec
        self._graph: Vectors = np.empty((0, 0), np.float32)
        """The vectors of the graph: in memory after a build, mapped after a load."""
        self._file: io.FileIO | None = None
        """Their file, after a load."""
        self._start = 0
        """Where the numbers begin in it, bytes."""
        self._added = self._graph
        """The vectors beside the graph."""
        self._removed = np.zeros(0, np.bool_)
        self._folder = Path()
        self._kept: tempfile.TemporaryDirectory[str] | None = None
        """Holds the files of an index that was built here, for as long as it is used."""
        self._searcher: client.DiskSearcher | None = None

    @property
    def count(self) -> int:
        """See VectorIndex."""
        return len(self._removed)

    @property
    def dimension(self) -> int:
        """See VectorIndex."""
        return int(self._graph.shape[1])

    @property
    def needs_rebuild(self) -> bool:
        """See VectorIndex. Added rows count too: each search scans them."""
        changed = int(self._removed.sum()) + len(self._added)
        return changed >= self.spec.rebuild_share * self.count

    @property
    def process(self) -> int | None:
        """Id of the process that searches, where it was started."""
        return self._searcher.pid if self._searcher else None

    def build(self, vectors: Vectors) -> None:
        """See VectorIndex. Raises also: SetupError without the environment, or when its process fails."""
        rows = matrix(vectors)
        self.spec.check(*rows.shape)
        client.disk_python()
        kept = tempfile.TemporaryDirectory(prefix="sluice-diskann-")
        folder = Path(kept.name)
        write_vectors(folder / "vectors.bin", rows)
        spec = self.spec
        client.build(folder, folder / "vectors.bin", spec.disk_degree, spec.disk_complexity, spec.disk_build_gib)
        (folder / "vectors.bin").unlink()
        write_codes(folder, rows, spec.codes(rows.shape[1]))
        self._use(folder, rows, rows[:0])
        self._kept, self._file = kept, None
        self._removed = np.zeros(len(rows), np.bool_)

    def add(self, vectors: Vectors) -> Rows:
        """See VectorIndex."""
        rows = joining(vectors, self.dimension)
        first = self.count
        self._added = np.concatenate([self._added, rows])
        self._removed = np.concatenate([self._removed, np.zeros(len(rows), np.bool_)])
        return np.arange(first, self.count, dtype=np.int64)

    def remove(self, rows: Rows) -> None:
        """See VectorIndex."""
        remove_rows(self._removed, rows)

    def rebuild(self) -> Rows:
        """See VectorIndex."""
        kept = np.flatnonzero(~self._removed).astype(np.int64)
        self.build(self._everything().take(kept))
        return kept

    def search(self, query: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """See VectorIndex. Raises also: SetupError, TryAgainError when the process fails or does not answer."""
        check_query(query, self.dimension)
        mask = open_rows(allowed, self._removed)
        built = len(self._graph)
        rows, scores = self._in_graph(query, k, None if mask is None else mask[:built])
        if len(self._added):
            more, their = StoredVectors(self._added).best(query, k, None if mask is None else _numbers(mask[built:]))
            rows, scores = np.concatenate([rows, more + built]), np.concatenate([scores, their])
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]

    def save(self, folder: Path) -> None:
        """See VectorIndex."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in FILES if folder != self._folder else ():
                replace_file(folder / name, lambda file, name=name: shutil.copyfile(self._folder / name, file))  # type: ignore[misc]
            replace_file(folder / VECTORS, self._everything().save)
            write_updates(folder, len(self._graph), self._removed)
        except OSError as error:
            raise SetupError(f"{folder}: the index cannot be written: {error}") from error

    @classmethod
    def load(cls, folder: Path, spec: VectorSpec) -> Self:
        """See VectorIndex. Raises also: SetupError without the environment."""
        client.disk_python()
        loaded = cls(spec)
        built, dimension = read_shape(folder)
        vectors = map_vectors(folder / VECTORS)
        updates = read_updates(folder, len(vectors))
        if (updates.built, vectors.shape[1]) != (built, dimension):
            raise IntegrityError(f"{folder / VECTORS}: not the vectors of this index; build the index again")
        loaded._use(folder, vectors[:built], vectors[built:])
        loaded._file = io.FileIO(folder / VECTORS)
        loaded._start = os.fstat(loaded._file.fileno()).st_size - vectors.nbytes
        loaded._removed = removed_rows(updates, len(vectors))
        return loaded

    def _use(self, folder: Path, graph: Vectors, added: Vectors) -> None:
        self._folder, self._graph, self._added = folder, graph, added
        self._searcher = client.DiskSearcher(folder, graph.shape[1])

    def _everything(self) -> StoredVectors:
        """All rows, in their order."""
        whole = StoredVectors(self._graph)
        if len(self._added):
            whole.append(self._added)
        return whole

    def _in_graph(self, query: Vectors, k: int, mask: Mask | None) -> tuple[Rows, Vectors]:
        """The best `k` open rows of the graph."""
        opened = len(self._graph) if mask is None else int(mask.sum())
        wanted = self.spec.depth(k)
        complexity = max(self.spec.disk_search, 2 * wanted)
        if mask is not None:
            complexity = max(complexity, _complexity(wanted * len(mask) // max(opened, 1)))
        while opened > max(_SCANNED * complexity, k):
            assert self._searcher is not None
            near = self._searcher.search(query, wanted if mask is None else complexity, complexity)
            places = np.arange(len(near)) if mask is None else np.flatnonzero(mask[near])
            if len(places) < wanted:
                complexity *= _DEEPER
            elif mask is not None and (needed := _complexity(int(places[wanted - 1]))) > 2 * complexity:
                complexity = needed
            else:
                rows = np.sort(near[places[:wanted]])
                best, scores = StoredVectors(self._take(rows)).best(query, k)
                return rows[best], scores
        return StoredVectors(self._graph).best(query, k, None if mask is None else _numbers(mask))

    def _take(self, rows: Rows) -> Vectors:
        """Vectors of rows of the graph. A few are read from the file: mapping their pages would keep them in memory."""
        if self._file is None:
            return self._graph[rows]
        size = 4 * self.dimension
        parts = [os.pread(self._file.fileno(), size, self._start + size * row) for row in rows.tolist()]
        return np.frombuffer(b"".join(parts), "<f4").reshape(len(rows), self.dimension)


def _complexity(place: int) -> int:
    """Candidates to keep for a search whose place `place`, best first, must be right."""
    return _DEPTH * (place + 1)


def _numbers(mask: Mask) -> Rows:
    """The rows that a mask opens, in their order."""
    return np.flatnonzero(mask).astype(np.int64)
