"""Bench: our gateway for ten minutes at a rate it keeps, four fifths of the largest in seconds: no error, no growth."""

from evaluation.benches import BenchRow
from evaluation.benches.gatewaying.measuring import steady_rows
from infra.settings import Settings

SECONDS = 600.0


def run(settings: Settings) -> list[BenchRow]:
    """The rows."""
    return steady_rows(settings, SECONDS)
