"""Bench: guards: recall by family left out, false positives with intervals, milliseconds of each, delay of streams."""

from evaluation.benches import BenchRow
from evaluation.guard_delay import output_rows
from evaluation.guard_report import cost_rows, false_positive_rows, recall_rows
from infra.settings import Policy, Settings
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy
from models.cases import CaseSpec, load_cases


def run(settings: Settings) -> list[BenchRow]:
    """Every row; public sets are read where they are there. The guards are the policy's."""
    policy = Policy(settings.policy)
    guards = Guards(policy.section("guards", GuardPolicy))
    guards.personal.warm()
    shares = [*recall_rows(), *false_positive_rows(settings.corpora)]
    return [*shares, *cost_rows(guards), *output_rows(guards, sample_answers(policy))]


def sample_answers(policy: Policy) -> list[str]:
    """Texts as long as answers of a large model: the evidence of four cases after each other."""
    cases = [case for case in load_cases(policy.section("cases", CaseSpec), policy.path.parent) if case.evidence]
    texts = [" ".join(case.evidence) for case in cases]
    return [" ".join(texts[start : start + 4]) for start in range(0, len(texts), 4)]
