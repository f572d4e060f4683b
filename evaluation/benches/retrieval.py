"""Bench: retrieval, from files to reranking: what it finds on real questions, how fast, in how much memory."""

from evaluation.benches import BenchRow
from evaluation.benches.ingesting.rows import ingest_rows
from evaluation.benches.retrieving.latency import latency_rows
from evaluation.benches.retrieving.vectors import vector_rows
from evaluation.benches.retrieving.xquad import xquad_rows
from infra.settings import Settings


def run(settings: Settings) -> list[BenchRow]:
    """Every row; takes some tens of minutes and 10 GB of disk. Raises SetupError without the public corpus."""
    return [*xquad_rows(settings), *latency_rows(settings), *vector_rows(), *ingest_rows(settings)]
