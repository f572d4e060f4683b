"""Which kind of index suits a corpus: a pure rule, the memory formulas behind it, and the price of larger corpora."""

from collections.abc import Sequence

from pydantic import Field

from indexes.vectors.diskann_files import SECTOR
from indexes.vectors.spec import EXACT, IVF, KINDS, MAPPED, Kind, VectorSpec
from infra.errors import InputError
from infra.settings import Spec

GIB = 2**30
SMALL = 10_000
"""Up to so many rows a scan takes a few milliseconds: nothing is gained by approximating."""
LARGEST_SCAN = 1_000_000
"""Beyond so many rows a scan takes more than a tenth of a second on one core (11.5 ms for 100,000 rows of 384)."""
MANY_UPDATES = 0.1
"""Share of the rows that change in a day from which additions decide: 1,000 take IVF about a tenth of HNSW's time."""
MAPPED_UPDATES = 0.01
"""Share of the rows that change in a day up to which a mapped index is worth writing again every night."""
REBUILD_DAYS = 7
"""DiskANN is not taken where updates would have it built again more often than this."""
PROCESS_BYTES = 32 * 2**20
"""What DiskANN's process takes whatever it holds: Python, NumPy and the library (31 MB seen, 17 of them files)."""
SCALES = (10_000_000, 1_000_000_000)
"""Rows for which a comparison says memory and price."""
EXPECTED_RECALL: dict[Kind, float] = {
    "flat": 1.0,
    "flat-mapped": 1.0,
    "hnsw": 0.99,
    "hnsw-mapped": 0.99,
    "hnsw-sq8": 0.985,
    "ivf-rabitq": 0.97,
    "ivf-pq": 0.95,
    "diskann": 0.95,
}
"""Recall@10 to plan with at the automatic parameters, below what 30,000 clustered rows of 384 gave (0.99 and more). Not
measured beyond, and vectors without clusters give IVF far less: `indexes/vectors/compare.py` measures one's own."""
_USUAL: tuple[Kind, ...] = ("hnsw", "hnsw-sq8", "ivf-rabitq", "ivf-pq", "diskann", "hnsw-mapped", "flat", "flat-mapped")
_CHANGING: tuple[Kind, ...] = (
    "ivf-rabitq",
    "ivf-pq",
    "hnsw",
    "hnsw-sq8",
    "flat",
    "diskann",
    "hnsw-mapped",
    "flat-mapped",
)
_FEW: tuple[Kind, ...] = ("flat", "flat-mapped", *_USUAL)


class Footprint(Spec):
    """Room that an index takes, by formula."""

    kind: Kind
    rows: int
    memory_bytes: int
    """Held in memory all the time. What a mapped file has in the page cache can be taken back and does not count."""
    disk_bytes: int
    """The index file and the vectors beside it (float32)."""


class Projection(Footprint):
    """What an index of so many rows would take and cost."""

    price_per_month: float
    """In the currency of the given prices."""


class Need(Spec):
    """What is asked of an index."""

    rows: int = Field(ge=1)
    """Vectors."""
    dimension: int = Field(ge=1)
    """Numbers of a vector."""
    recall: float = Field(0.95, gt=0, le=1)
    """Share of the exact best ten that a search must find on average; 1 asks for exact search."""
    memory_budget_bytes: int = Field(ge=0)
    """Memory that the index may hold all the time, bytes."""
    updates_a_day: int = Field(0, ge=0)
    """Rows added, changed or removed in a day."""


class IndexNeed(Spec):
    """What the project asks of its vector index, and what room costs; `sluice run index --compare` answers it."""

    rows: int | None = Field(None, ge=1)
    """Vectors to plan for. None: as many as there are."""
    recall: float = Field(0.95, gt=0, le=1)
    """Share of the exact best ten that a search must find on average; 1 asks for exact search."""
    memory_gib: float = Field(4, ge=0)
    """Memory that the index may hold all the time."""
    updates_a_day: int = Field(0, ge=0)
    """Vectors added, changed or removed in a day."""
    memory_price: float = Field(3, ge=0)
    """Price of a GiB of memory for a month, in the currency of section `cost`."""
    disk_price: float = Field(0.1, ge=0)
    """Price of a GiB of disk for a month."""

    def of(self, rows: int, dimension: int) -> Need:
        """The need of an index over `rows` vectors, or over as many as are planned for."""
        return Need(
            rows=self.rows or rows,
            dimension=dimension,
            recall=self.recall,
            memory_budget_bytes=round(self.memory_gib * GIB),
            updates_a_day=self.updates_a_day,
        )


class Choice(Spec):
    """The kind to take, why, and why not another."""

    kind: Kind
    reasons: tuple[str, ...]
    """One line on the chosen kind, then one on every kind that was preferred and fell out."""
    footprint: Footprint


def bytes_a_vector(spec: VectorSpec, dimension: int) -> int:
    """Bytes of one vector inside the index file.

    Sources: FAISS wiki, "Faiss indexes" (Flat 4 d; HNSW 4 d + 8 M; IVFPQ ⌈M nbits / 8⌉ + 8 with the 8-byte id; SQ8 d in
    place of 4 d) and "Guidelines to choose an index" (HNSW: d * 4 + x * 2 * 4 with x links). RaBitQ: a bit a number and
    two factors of 4 bytes (FAISS, `RaBitQuantizer`), and the id. DiskANN: the vector, the number of its links and the
    links (4 (d + 1 + R)), as many as fit into 4,096 bytes together or whole sectors for one, and the codes.
    """
    links = 8 * spec.m
    node = 4 * (dimension + 1 + spec.disk_degree)
    sectors = SECTOR // (SECTOR // node) if node <= SECTOR else -(-node // SECTOR) * SECTOR
    sizes: dict[Kind, int] = {
        "flat": 4 * dimension,
        "hnsw": 4 * dimension + links,
        "hnsw-sq8": dimension + links,
        "ivf-pq": -(-spec.parts(dimension) * spec.pq_bits // 8) + 8,
        "ivf-rabitq": -(-dimension // 8) + 8 + 8,
        "diskann": sectors + spec.codes(dimension),
    }
    sizes |= {"flat-mapped": sizes["flat"], "hnsw-mapped": sizes["hnsw"]}
    return sizes[spec.kind]


def footprint(spec: VectorSpec, rows: int, dimension: int) -> Footprint:
    """Memory and disk of an index of the spec's kind: rows times `bytes_a_vector`, and the centroids of IVF.

    DiskANN holds its codes and its process; the rest is read from the disk.
    """
    centroids = 4 * dimension * spec.lists(rows) if spec.kind in IVF else 0
    index = rows * bytes_a_vector(spec, dimension) + centroids
    held = 0 if spec.kind in MAPPED else index
    if spec.kind == "diskann":
        held = rows * spec.codes(dimension) + PROCESS_BYTES
    return Footprint(kind=spec.kind, rows=rows, memory_bytes=held, disk_bytes=index + 4 * rows * dimension)


def project(
    spec: VectorSpec,
    dimension: int,
    memory_price: float,
    disk_price: float = 0.0,
    rows: Sequence[int] = SCALES,
) -> list[Projection]:
    """The index at larger numbers of rows, with its price a month; prices are for one GiB (2³⁰ bytes) and month."""
    found = []
    for number in rows:
        taken = footprint(spec, number, dimension)
        price = (taken.memory_bytes * memory_price + taken.disk_bytes * disk_price) / GIB
        found.append(Projection(**taken.model_dump(), price_per_month=price))
    return found


def choose(need: Need, spec: VectorSpec | None = None) -> Choice:
    """The first kind, in order of preference for such a corpus, that nothing speaks against.

    `spec` gives the parameters; its kind does not count. Raises InputError when no kind fits, with why each does not.
    """
    order, why = _order(need)
    against: list[str] = []
    for kind in dict.fromkeys(order):
        asked = (spec or VectorSpec()).model_copy(update={"kind": kind})
        taken = footprint(asked, need.rows, need.dimension)
        objections = _objections(need, asked, taken)
        if not objections:
            room = f"{taken.memory_bytes / GIB:.3g} GiB of memory, {taken.disk_bytes / GIB:.3g} GiB on disk"
            chosen = f"{kind}: {why}; recall@10 about {EXPECTED_RECALL[kind]:.3g}, {room}"
            return Choice(kind=kind, reasons=(chosen, *against), footprint=taken)
        against.append(f"not {kind}: {'; '.join(objections)}")
    raise InputError(
        f"no kind of index fits {need.rows:,} vectors: {' | '.join(against)}. "
        "Raise the memory budget or lower the recall"
    )


def _order(need: Need) -> tuple[tuple[Kind, ...], str]:
    if need.rows <= SMALL:
        return _FEW, f"up to {SMALL:,} rows a scan takes milliseconds and is exact"
    if need.updates_a_day >= MANY_UPDATES * need.rows:
        return _CHANGING, f"{need.updates_a_day / need.rows:.0%} of the rows change in a day and IVF takes rows fastest"
    return _USUAL, "the fastest search that fits"


def _objections(need: Need, spec: VectorSpec, taken: Footprint) -> list[str]:
    kind, found = spec.kind, []
    if EXPECTED_RECALL[kind] < need.recall:
        found.append(f"recall@10 about {EXPECTED_RECALL[kind]:.3g}, {need.recall:.3g} is asked for")
    if taken.memory_bytes > need.memory_budget_bytes:
        allowed = need.memory_budget_bytes / GIB
        found.append(f"takes {taken.memory_bytes / GIB:.3g} GiB of memory, {allowed:.3g} allowed")
    if need.rows < spec.least_rows():
        found.append(f"learns from at least {spec.least_rows():,} vectors")
    if kind in EXACT and need.rows > LARGEST_SCAN:
        found.append(f"a search would scan {4 * need.dimension * need.rows / GIB:.3g} GiB")
    if kind in MAPPED and need.updates_a_day > MAPPED_UPDATES * need.rows:
        share = need.updates_a_day / need.rows
        found.append(f"{share:.0%} of its rows would change in a day: it is read into memory then")
    if kind == "diskann" and REBUILD_DAYS * need.updates_a_day > spec.rebuild_share * need.rows:
        days = spec.rebuild_share * need.rows / need.updates_a_day
        found.append(f"would be built again every {days:.2g} days")
    return found


assert set(EXPECTED_RECALL) == set(_USUAL) == set(_CHANGING) == set(KINDS)
