"""Bench: the parts around models beside their peers: training, the memory planner, the load generator."""

from evaluation.benches import BenchRow
from evaluation.benches.modelling.loading import loading_rows
from evaluation.benches.modelling.planning import planning_rows
from evaluation.benches.modelling.training import training_rows
from infra.settings import Settings


def run(settings: Settings) -> list[BenchRow]:
    """The rows of each part, in turn. Raises SetupError where the engine's environment is missing."""
    return [row for part in (training_rows, planning_rows, loading_rows) for row in part(settings)]
