"""Which vector index, with what parameters: those left empty follow from the number of rows and the dimension."""

import math
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from infra.errors import PolicyError
from infra.settings import Spec

Kind = Literal["hnsw", "flat", "hnsw-sq8", "hnsw-mapped", "flat-mapped", "ivf-pq", "ivf-rabitq", "diskann"]
KINDS: tuple[Kind, ...] = ("flat", "flat-mapped", "hnsw", "hnsw-mapped", "hnsw-sq8", "ivf-pq", "ivf-rabitq", "diskann")
EXACT: frozenset[Kind] = frozenset({"flat", "flat-mapped"})
MAPPED: frozenset[Kind] = frozenset({"flat-mapped", "hnsw-mapped"})
IVF: frozenset[Kind] = frozenset({"ivf-pq", "ivf-rabitq"})
TRAINED: frozenset[Kind] = IVF | {"diskann"}
"""Kinds that learn centroids from the vectors: rows added later do not move them."""
QUANTIZED: frozenset[Kind] = frozenset({"hnsw-sq8", *TRAINED})
"""Kinds that hold codes: what they find is ranked again by the stored vectors."""
POINTS = 39
"""Vectors a centroid is learned from, at least: below that FAISS warns (`min_points_per_centroid`)."""
LEAST_LISTS = 16
MASKED_DEPTH, MASKED_PROBES = 2, 2
"""Times as many candidates and lists behind a mask: it may shut the rows near the question, and those farther away lie
closer together than codes tell apart. Measured where the question's own topic is shut (5,000 clustered rows of 384,
half of them open): recall@10 of ivf-rabitq 0.83 (refine 8, no more lists) and 0.98; of ivf-pq 0.93 and 0.99."""
_REFINE: dict[Kind, int] = {"hnsw-sq8": 2, "ivf-pq": 32, "ivf-rabitq": 16, "diskann": 1}
LEAST_DISK_ROWS = 256
"""Vectors that DiskANN's codes are learned from, at least: a byte has 256 centroids."""
_CARD_BEFORE = frozenset({"kind", "m", "ef_construction", "ef_search"})
"""Fields that every card names; the others only where they were set, so that older cards keep their bytes."""


class VectorSpec(Spec):
    """A kind of vector index and its parameters; each kind reads its own and leaves the others alone."""

    kind: Kind = "hnsw"
    """flat: exact, for small corpora. hnsw: approximate and fast. hnsw-sq8: the same with a byte a number. flat-mapped
    and hnsw-mapped: read from the disk as needed. ivf-pq and ivf-rabitq: smallest in memory, for many vectors. diskann:
    a graph on the disk with codes in memory, in a process of its own."""
    m: int = Field(32, ge=4, le=128)
    """HNSW: links of a row."""
    ef_construction: int = Field(100, ge=8)
    """HNSW: candidates kept while building."""
    ef_search: int = Field(128, ge=8)
    """HNSW: candidates kept while searching."""
    nlist: int | None = Field(None, ge=1, le=1_048_576)
    """IVF: lists that the rows are sorted into. None: 4 √rows, at most rows / 39."""
    nprobe: int | None = Field(None, ge=1, le=65_536)
    """IVF: lists that a search reads; more where a mask leaves few rows. None: √nlist, at least 8."""
    pq_parts: int | None = Field(None, ge=1, le=4_096)
    """IVF-PQ: parts that a vector is cut into; divides the dimension. None: the largest divisor up to a quarter."""
    pq_bits: Literal[4, 8] = 4
    """IVF-PQ: bits of a part; 8 needs 9,984 vectors to learn from and sixteen times the time."""
    refine: int | None = Field(None, ge=1, le=100)
    """Quantized kinds: k × refine candidates are ranked again by exact inner products. None: 2 for hnsw-sq8,
    32 for ivf-pq, 16 for ivf-rabitq, 1 for diskann, which has read them from its disk already."""
    disk_degree: int = Field(48, ge=8, le=512)
    """DiskANN: links of a row. Up to 127 take no more room where a row has 384 numbers: two rows share 4,096 bytes."""
    disk_complexity: int = Field(75, ge=8, le=2_000)
    """DiskANN: candidates kept while building."""
    disk_search: int = Field(128, ge=8, le=10_000)
    """DiskANN: candidates kept while searching; each is read from the disk once."""
    disk_codes: int | None = Field(None, ge=1, le=512)
    """DiskANN: bytes of a row in memory; divides the dimension. None: the largest divisor up to a sixteenth, or 8."""
    disk_build_gib: float = Field(8, gt=0)
    """DiskANN: memory that building may take; with less than the graph needs it is built in parts and merged."""
    device: Literal["cpu", "gpu"] = "cpu"
    """gpu: searches without a mask ask a copy on the first GPU (faiss-gpu), of flat and of ivf-pq with pq_bits 8, which
    it can hold. Behind a mask the CPU searches."""
    rebuild_share: float = Field(0.2, gt=0, le=1)
    """Share of rows removed (IVF, DiskANN: or added) since the index was built from which it should be built again."""

    @model_validator(mode="after")
    def _device_has_the_kind(self) -> Self:
        if self.device == "gpu" and self.kind != "flat" and (self.kind, self.pq_bits) != ("ivf-pq", 8):
            raise ValueError(f"device gpu searches flat, and ivf-pq with pq_bits 8; {self.kind} stays on the cpu")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A field that this class gained later is written only where it was set."""
        later = {name: field for name, field in VectorSpec.model_fields.items() if name not in _CARD_BEFORE}
        unset = {name for name, field in later.items() if getattr(self, name) == field.default}
        return {name: value for name, value in plain(self).items() if name not in unset}

    def lists(self, rows: int) -> int:
        """Lists of an IVF index over `rows` vectors (FAISS wiki, "Guidelines to choose an index": 4 √n to 16 √n)."""
        return self.nlist or max(LEAST_LISTS, min(round(4 * math.sqrt(rows)), rows // POINTS))

    def probes(self, nlist: int, share: float = 1.0) -> int:
        """Lists that a search reads when a mask leaves `share` of the rows."""
        probes = self.nprobe or max(8, math.ceil(math.sqrt(nlist)))
        return min(nlist, probes if share >= 1 else math.ceil(MASKED_PROBES * probes / share))

    def parts(self, dimension: int) -> int:
        """Parts of a vector for product quantization."""
        return self.pq_parts or _divisor(dimension, dimension // 4)

    def codes(self, dimension: int) -> int:
        """Bytes of a row that DiskANN holds in memory."""
        return self.disk_codes or _divisor(dimension, max(dimension // 16, 8))

    def depth(self, k: int, behind_mask: bool = False) -> int:
        """Candidates taken from the index for `k` results."""
        if self.kind not in QUANTIZED:
            return k
        return k * (self.refine or _REFINE[self.kind]) * (MASKED_DEPTH if behind_mask else 1)

    def least_rows(self) -> int:
        """Vectors that this kind needs to learn from: POINTS a centroid of its lists and of its codes."""
        if self.kind == "diskann":
            return LEAST_DISK_ROWS
        if self.kind not in IVF:
            return 1
        codes = 2**self.pq_bits if self.kind == "ivf-pq" else 0
        return POINTS * max(self.nlist or LEAST_LISTS, codes)

    def check(self, rows: int, dimension: int) -> None:
        """Raise PolicyError naming the field, where vectors of this number and dimension cannot be indexed so."""
        least = self.least_rows()
        if rows < least:
            field = "index.nlist" if self.nlist and least == POINTS * self.nlist else "index.kind"
            raise PolicyError(
                f"{field}: {self.kind} learns from at least {least:,} vectors and there are {rows:,}: "
                f"{'a smaller nlist, or ' if field == 'index.nlist' else ''}take kind flat or hnsw"
            )
        if self.kind == "ivf-pq" and dimension % self.parts(dimension):
            raise PolicyError(f"index.pq_parts: {self.pq_parts} does not divide the dimension {dimension}")
        if self.kind == "diskann" and dimension % self.codes(dimension):
            raise PolicyError(f"index.disk_codes: {self.disk_codes} does not divide the dimension {dimension}")


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` up to `most`."""
    return next(divisor for divisor in range(max(min(most, number), 1), 0, -1) if number % divisor == 0)
