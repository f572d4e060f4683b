"""Every kind as FAISS makes, reads and asks it. One thread and fixed seeds: the same vectors give the same bytes."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from indexes.types import Vectors
from indexes.vectors.port import Mask
from indexes.vectors.spec import EXACT, IVF, MAPPED, Kind, VectorSpec
from infra.errors import IntegrityError, SetupError

_SEED = 1234
_QUERY_BITS = 8
"""RaBitQ: bits of a number of the query."""
_CLASS: dict[Kind, str] = {
    "flat": "IndexFlat",
    "flat-mapped": "IndexFlat",
    "hnsw": "IndexHNSWFlat",
    "hnsw-mapped": "IndexHNSWFlat",
    "hnsw-sq8": "IndexHNSWSQ",
    "ivf-pq": "IndexIVFPQ",
    "ivf-rabitq": "IndexPreTransform",
}


def library() -> Any:
    """FAISS, without its own type stubs: they lack parts that are there."""
    return importlib.import_module("faiss")


def make(spec: VectorSpec, vectors: Vectors) -> Any:
    """A FAISS index of the spec's kind over `vectors`, trained where the kind is."""
    faiss = library()
    faiss.omp_set_num_threads(1)
    rows, dimension = vectors.shape
    index = _ivf(spec, rows, dimension) if spec.kind in IVF else _plain(spec, dimension)
    if not index.is_trained:
        index.train(vectors)
    index.add(vectors)
    return index


def _plain(spec: VectorSpec, dimension: int) -> Any:
    faiss = library()
    if spec.kind in EXACT:
        return faiss.IndexFlatIP(dimension)
    if spec.kind == "hnsw-sq8":
        index = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_8bit, spec.m, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexHNSWFlat(dimension, spec.m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = spec.ef_construction
    index.hnsw.efSearch = spec.ef_search
    return index


def _ivf(spec: VectorSpec, rows: int, dimension: int) -> Any:
    """Product quantization (Jégou and others 2011), or RaBitQ behind a random rotation (Gao and Long 2024)."""
    faiss = library()
    coarse, nlist = faiss.IndexFlatIP(dimension), spec.lists(rows)
    if spec.kind == "ivf-pq":
        parts = spec.parts(dimension)
        index = faiss.IndexIVFPQ(coarse, dimension, nlist, parts, spec.pq_bits, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed = _SEED
    else:
        index = faiss.IndexIVFRaBitQ(coarse, dimension, nlist, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = _SEED
    index.cp.spherical = True
    if spec.kind == "ivf-pq":
        return index
    rotation = faiss.RandomRotationMatrix(dimension, dimension)
    rotation.init(_SEED)
    return faiss.IndexPreTransform(rotation, index)


def read(kind: Kind, file: Path) -> Any:
    """A saved index; one of a mapped kind keeps its numbers in the file. Raises IntegrityError."""
    faiss = library()
    # IO_FLAG_MMAP maps inverted lists only; with _IFC the arrays of flat and HNSW indexes stay in the file as well.
    flags = faiss.IO_FLAG_MMAP_IFC if kind in MAPPED else 0
    try:
        index = faiss.read_index(str(file), flags)
    except (OSError, RuntimeError, MemoryError) as error:
        raise IntegrityError(f"{file}: not a FAISS index; build the index again") from error
    found = type(index).__name__
    inner = type(lists_of(index)).__name__ if kind == "ivf-rabitq" else "IndexIVFRaBitQ"
    if not found.startswith(_CLASS[kind]) or inner != "IndexIVFRaBitQ":
        raise IntegrityError(f"{file}: holds {found}, not {_CLASS[kind]} ({kind}); build the index again")
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise IntegrityError(f"{file}: does not search by inner product; build the index again")
    return index


def on_gpu(spec: VectorSpec, index: Any) -> Any:
    """A copy of a flat or IVF-PQ index on the first GPU. Raises SetupError where FAISS sees none."""
    faiss = library()
    if not faiss.get_num_gpus():
        raise SetupError("index.device: gpu, but this FAISS sees no GPU: install faiss-gpu, or set index.device: cpu")
    copied = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    if spec.kind in IVF:
        copied.nprobe = spec.probes(index.nlist)
    return copied


def in_memory(index: Any) -> Any:
    """A copy that can grow: FAISS ends the process when a mapped index is added to."""
    faiss = library()
    return faiss.deserialize_index(faiss.serialize_index(index))


def lists_of(index: Any) -> Any:
    """The IVF index itself, behind a rotation or not."""
    return library().downcast_index(index.index) if hasattr(index, "chain") else index


def vectors_in(index: Any, kind: Kind) -> Vectors:
    """The rows that a flat or plain HNSW index holds, shape (n, dimension), without a copy."""
    faiss = library()
    flat = index if kind in EXACT else faiss.downcast_index(index.storage)
    held: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    return held


def parameters(spec: VectorSpec, index: Any, depth: int, mask: Mask | None) -> Any:
    """How a search for `depth` candidates among the rows that `mask` opens is done."""
    faiss = library()
    wanted: dict[str, Any] = {}
    share = 1.0
    if mask is not None:
        wanted["sel"] = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        share = float(mask.mean())
    if spec.kind in EXACT:
        return faiss.SearchParameters(**wanted)
    if spec.kind not in IVF:
        return faiss.SearchParametersHNSW(efSearch=max(spec.ef_search, depth), **wanted)
    nprobe = spec.probes(lists_of(index).nlist, share)
    if spec.kind == "ivf-pq":
        return faiss.SearchParametersIVF(nprobe=nprobe, **wanted)
    inner = faiss.IVFRaBitQSearchParameters(nprobe=nprobe, qb=_QUERY_BITS, **wanted)
    return faiss.SearchParametersPreTransform(index_params=inner)
