"""Bench: our gateway for ten minutes at the largest rate it keeps: no error, no growth."""

from evaluation.benches import BenchRow
from evaluation.benches.gatewaying.measuring import steady_rows
from infra.settings import Settings

SECONDS = 600.0


def run(settings: Settings) -> list[BenchRow]:
    """The rows."""
    return steady_rows(settings, SECONDS)
