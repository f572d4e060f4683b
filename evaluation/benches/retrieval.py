"""Bench: retrieval, from files to reranking: what it finds on real questions, how fast, in how much memory."""

import logging
from collections.abc import Callable

from evaluation.benches import BenchRow
from evaluation.benches.ingesting.rows import ingest_rows
from evaluation.benches.retrieving.embedding import embedding_rows
from evaluation.benches.retrieving.latency import latency_rows
from evaluation.benches.retrieving.vectors import vector_rows
from evaluation.benches.retrieving.xquad import xquad_rows
from infra.settings import Settings

_LOG = logging.getLogger("sluice.progress")


def run(settings: Settings) -> list[BenchRow]:
    """Every row; takes half an hour and 10 GB of disk. Raises SetupError without the public corpus or DiskANN."""
    parts: dict[str, Callable[[], list[BenchRow]]] = {
        "questions": lambda: xquad_rows(settings),
        "embedding": lambda: embedding_rows(settings),
        "a whole search": lambda: latency_rows(settings),
        "vector search": vector_rows,
        "ingest": lambda: ingest_rows(settings),
    }
    rows: list[BenchRow] = []
    for name, measure in parts.items():
        _LOG.info("bench retrieval: %s …", name)
        for row in measure():
            rows.append(row)
            _LOG.info("bench retrieval: %s %.4g %s, ratio %s", row.name, row.value, row.unit, row.ratio)
    return rows
