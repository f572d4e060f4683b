"""Bench: input guards: recall by family left out, false positives with intervals, milliseconds of each guard."""

from evaluation.benches import BenchRow
from evaluation.guard_report import cost_rows, false_positive_rows, recall_rows
from infra.settings import Policy, Settings
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy


def run(settings: Settings) -> list[BenchRow]:
    """Every row; public sets are read where they are there. The guards are the policy's."""
    guards = Guards(Policy(settings.policy).section("guards", GuardPolicy))
    guards.personal.warm()
    return [*recall_rows(), *false_positive_rows(settings.corpora), *cost_rows(guards)]
