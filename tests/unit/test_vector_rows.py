"""The bench's rows on vector indexes, at a size that takes seconds."""

import pytest

from evaluation.benches.retrieving.vectors import vector_rows
from indexes.vectors.spec import VectorSpec
from tests.environment import needs_disk


@needs_disk
def test_rows_of_the_port_beside_bare_faiss_and_of_diskann_beside_hnsw() -> None:
    rows = vector_rows(2_500, 32, VectorSpec(ef_construction=40, disk_degree=24, disk_complexity=40))
    named = {row.name: row for row in rows}
    for name in ("search_ratio", "search_ratio, flat"):
        row = named[name]
        assert row.peer_value is not None
        assert row.ratio == pytest.approx(row.value / row.peer_value)
        assert row.ratio is not None
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.ratio < row.high
    memory, resident = named["disk_memory_ratio"], named["disk memory with pages of files"]
    assert memory.value > 5, "Python and NumPy alone take that: the process is counted"
    assert memory.value < resident.value
    assert named["disk recall@10"].value >= 0.95
