"""The row of the embedding stage beside the bare library has speeds of both and an interval around their ratio."""

from pathlib import Path

from evaluation.benches.retrieving.embedding import embedding_ratio
from indexes.embedder import EmbedSpec


def test_the_row_names_the_library_s_batch_and_holds_the_ratio_in_its_interval() -> None:
    texts = [f"Pump {number} stands in zone {number % 3}." for number in range(8)]
    row = embedding_ratio(texts, EmbedSpec(), Path(), repeats=3, batches=(2,))
    assert row.name == "embedding_ratio"
    assert row.peer == "sentence-transformers encode, batch 2"
    assert row.ratio is not None
    assert row.low is not None
    assert row.high is not None
    assert 0 < row.low <= row.ratio <= row.high
    assert row.value > 0
