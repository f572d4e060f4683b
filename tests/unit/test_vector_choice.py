"""The rule that picks a kind of index, beside numbers computed by hand and the sizes that FAISS itself writes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.vectors.choose import EXPECTED_RECALL, GIB, Need, bytes_a_vector, choose, footprint, project
from indexes.vectors.open import new_index
from indexes.vectors.spec import EXACT, KINDS, MAPPED, Kind, VectorSpec
from indexes.vectors.stored import VECTORS
from infra.errors import InputError
from tests.environment import needs_disk

BYTES_OF_384: dict[Kind, int] = {
    "flat": 1_536,  # 4 * 384
    "flat-mapped": 1_536,
    "hnsw": 1_792,  # 1,536 + 8 * 32 links
    "hnsw-mapped": 1_792,
    "hnsw-sq8": 640,  # 384 + 256
    "ivf-pq": 56,  # 96 parts of 4 bits = 48, and the id
    "ivf-rabitq": 64,  # 384 bits = 48, two factors, and the id
    "diskann": 2_072,  # two rows of 4 * (384 + 1 + 48) bytes share 4,096, and 24 bytes of codes
}
LARGE = {"rows": 10_000_000, "memory_budget_bytes": GIB // 2}
EVERY = [pytest.param(kind, marks=needs_disk) if kind == "diskann" else kind for kind in KINDS]


def need(**values: object) -> Need:
    return Need.model_validate({"rows": 100_000, "dimension": 384, "memory_budget_bytes": GIB, **values})


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_a_vector_by_hand(kind: Kind) -> None:
    assert bytes_a_vector(VectorSpec(kind=kind), 384) == BYTES_OF_384[kind]


def test_bytes_follow_the_parameters() -> None:
    assert bytes_a_vector(VectorSpec(kind="hnsw", m=16), 768) == 3_200  # 4 * 768 + 8 * 16
    assert bytes_a_vector(VectorSpec(kind="ivf-pq", pq_parts=48, pq_bits=8), 768) == 56
    assert bytes_a_vector(VectorSpec(kind="ivf-pq", pq_parts=3), 9) == 10  # 12 bits are two bytes
    assert bytes_a_vector(VectorSpec(kind="ivf-rabitq"), 100) == 29  # 100 bits are 13 bytes
    assert bytes_a_vector(VectorSpec(kind="diskann"), 1_024) == 8_192 + 64  # 4,292 bytes take two sectors
    assert bytes_a_vector(VectorSpec(kind="diskann", disk_degree=128, disk_codes=48), 384) == 4_096 + 48


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=needs_disk) if kind == "diskann" else kind for kind in KINDS]
)
def test_the_formula_is_what_is_written(kind: Kind, tmp_path: Path) -> None:
    rows, dimension = 3_000, 96
    drawn = np.random.default_rng(0).standard_normal((rows, dimension)).astype(np.float32)
    index = new_index(VectorSpec(kind=kind, ef_construction=16, disk_complexity=48))
    index.build(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    index.save(tmp_path)
    written = sum(file.stat().st_size for file in tmp_path.iterdir() if file.name != VECTORS)
    taken = footprint(index.spec, rows, dimension)
    constant = 4 * dimension * dimension if kind == "ivf-rabitq" else 0  # the rotation
    constant += 4 * 16 * dimension if kind == "ivf-pq" else 0  # the codebook: 16 centroids a part
    constant += 1_024 * dimension + 4_096 if kind == "diskann" else 0  # the codebook, and a sector before the graph
    graph = 20 * rows if "hnsw" in kind else 0  # levels, offsets and upper links, which the wiki leaves out
    assert written == pytest.approx(taken.disk_bytes - 4 * rows * dimension + constant + graph, rel=0.02)


def test_projections_to_ten_million_and_a_billion_by_hand() -> None:
    ten, billion = project(VectorSpec(kind="hnsw"), 384, memory_price=3.0, disk_price=0.1)
    assert (ten.rows, ten.memory_bytes, ten.disk_bytes) == (10_000_000, 17_920_000_000, 33_280_000_000)
    assert ten.price_per_month == pytest.approx(17.92e9 / 2**30 * 3 + 33.28e9 / 2**30 * 0.1)  # 50.07 + 3.10
    assert ten.price_per_month == pytest.approx(53.167, abs=1e-3)
    assert billion.memory_bytes == 1_792_000_000_000
    assert billion.price_per_month == pytest.approx(100 * ten.price_per_month)

    ten, billion = project(VectorSpec(kind="ivf-rabitq"), 384, memory_price=3.0)
    assert ten.memory_bytes == 640_000_000 + 12_649 * 1_536  # 4 * sqrt(1e7) lists
    assert billion.memory_bytes == 64_000_000_000 + 126_491 * 1_536
    assert billion.price_per_month == pytest.approx(179.357, abs=1e-3)  # 64,194,290,176 bytes

    disk, _ = project(VectorSpec(kind="diskann"), 384, memory_price=3.0, disk_price=0.1)
    assert disk.memory_bytes == 240_000_000 + 33_554_432  # 24 bytes a row, and the process
    assert disk.disk_bytes == 36_080_000_000  # 2,072 and 1,536 bytes a row
    assert disk.price_per_month == pytest.approx(4.125, abs=1e-3)

    mapped, _ = project(VectorSpec(kind="hnsw-mapped"), 384, memory_price=3.0, disk_price=0.1)
    assert (mapped.memory_bytes, mapped.disk_bytes) == (0, 33_280_000_000)


@pytest.mark.parametrize(
    ("values", "kind", "reasons"),
    [
        ({"rows": 10_000}, "flat", ["a scan takes milliseconds"]),
        ({"rows": 10_000, "memory_budget_bytes": 0}, "flat-mapped", ["not flat: takes 0.0143 GiB"]),
        ({}, "hnsw", ["the fastest search that fits"]),  # 179,200,000 bytes
        ({"memory_budget_bytes": 179_199_999}, "hnsw-sq8", ["not hnsw: takes 0.167 GiB of memory, 0.167 allowed"]),
        ({"memory_budget_bytes": 63_999_999}, "ivf-rabitq", ["not hnsw-sq8: takes"]),
        ({"memory_budget_bytes": 8_000_000}, "ivf-pq", ["not ivf-rabitq: takes"]),  # 5,600,000 + 1,265 * 1,536
        ({"memory_budget_bytes": 7_000_000}, "hnsw-mapped", ["not ivf-pq: takes", "not diskann: takes"]),
        ({"memory_budget_bytes": 63_999_999, "recall": 0.98}, "hnsw-mapped", ["not ivf-rabitq: recall@10 about 0.97"]),
        ({"recall": 1.0}, "flat", ["not hnsw: recall@10 about 0.99, 1 is asked for"]),
        ({"recall": 1.0, "memory_budget_bytes": 0}, "flat-mapped", ["not flat: takes 0.143 GiB"]),
        ({"updates_a_day": 10_000}, "ivf-rabitq", ["10% of the rows change in a day"]),
        ({"updates_a_day": 10_000, "recall": 0.98}, "hnsw", ["not ivf-pq: recall@10 about 0.95"]),
        ({"updates_a_day": 9_999}, "hnsw", ["the fastest search that fits"]),
        ({"rows": 10_000_000, "memory_budget_bytes": 8 * GIB}, "hnsw-sq8", ["not hnsw: takes 16.7 GiB"]),
        ({"rows": 1_000_000_000, "memory_budget_bytes": 64 * GIB}, "ivf-rabitq", ["not hnsw-sq8: takes 596 GiB"]),
        ({"rows": 1_000_000_000, "memory_budget_bytes": 24 * GIB}, "diskann", ["not ivf-pq: takes 52.3 GiB"]),
        (LARGE | {"updates_a_day": 250_000}, "diskann", ["not ivf-pq: takes 0.54 GiB"]),
    ],
)
def test_the_choice_and_its_reasons(values: dict[str, object], kind: Kind, reasons: list[str]) -> None:
    choice = choose(need(**values))
    assert choice.kind == choice.footprint.kind == kind
    assert choice.reasons[0].startswith(f"{kind}: ")
    told = "\n".join(choice.reasons)
    assert [reason for reason in reasons if reason not in told] == []


def test_where_nothing_fits_every_kind_says_why() -> None:
    with pytest.raises(InputError, match="no kind of index fits 2,000,000 vectors") as told:
        choose(need(rows=2_000_000, recall=0.999))
    for kind in KINDS:
        assert f"not {kind}: " in str(told.value)
    assert "a search would scan 2.86 GiB" in str(told.value)
    with pytest.raises(InputError, match="20% of its rows would change in a day"):
        choose(need(memory_budget_bytes=0, updates_a_day=20_000))
    with pytest.raises(InputError, match="not diskann: would be built again every 5 days"):
        choose(need(**LARGE, updates_a_day=400_000))


@given(
    rows=st.integers(1, 2_000_000_000),
    dimension=st.integers(1, 4_096),
    recall=st.floats(0.5, 1),
    budget=st.integers(0, 2**42),
    share=st.floats(0, 1),
)
def test_a_choice_keeps_what_was_asked(rows: int, dimension: int, recall: float, budget: int, share: float) -> None:
    asked = Need(
        rows=rows,
        dimension=dimension,
        recall=recall,
        memory_budget_bytes=budget,
        updates_a_day=int(share * rows),
    )
    try:
        choice = choose(asked)
    except InputError:
        smallest = footprint(VectorSpec(kind="ivf-pq"), rows, dimension).memory_bytes
        assert rows > 1_000_000 or share > 0.01 or budget < smallest
        return
    assert EXPECTED_RECALL[choice.kind] >= recall
    assert choice.footprint.memory_bytes <= budget
    assert rows >= VectorSpec(kind=choice.kind).least_rows()
    assert choice.kind not in EXACT or rows <= 1_000_000
    assert choice.kind not in MAPPED or asked.updates_a_day <= 0.01 * rows
