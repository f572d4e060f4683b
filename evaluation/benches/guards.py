"""Bench: guards: recall by family left out, false positives with intervals, topics, milliseconds, delay of streams."""

import tempfile
from pathlib import Path

from evaluation.benches import BenchRow
from evaluation.benches.retrieving.indexed import BenchIndexes
from evaluation.guard_delay import output_rows
from evaluation.guard_report import cost_rows, false_positive_rows, recall_rows
from evaluation.topic_report import load_topic_questions, topic_rows
from indexes.build import load_index
from infra.settings import ROOT, Policy, Settings
from models.answering.context import token_counter
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy
from models.answering.guards.topic_policy import TopicPolicy
from models.answering.guards.topics import Topics
from models.answering.pipeline import AnswerSpec
from models.base import policy_model
from models.cases import CaseSpec, load_cases

TOPICS = ROOT / "infra" / "sample" / "cases" / "topics.jsonl"
"""Questions that neither the policy's examples nor its threshold were chosen by."""


def run(settings: Settings) -> list[BenchRow]:
    """Every row; public sets are read where they are there. The guards are the policy's."""
    policy = Policy(settings.policy)
    chosen = policy.section("guards", GuardPolicy)
    guards = Guards(chosen)
    guards.personal.warm()
    rows = [*recall_rows(), *false_positive_rows(settings.corpora)]
    if chosen.topics is not None:
        rows += _topic_rows(settings, policy, chosen.topics)
    return [*rows, *cost_rows(guards), *output_rows(guards, sample_answers(policy))]


def _topic_rows(settings: Settings, policy: Policy, chosen: TopicPolicy) -> list[BenchRow]:
    """Over the index of the policy's documents, asked by who may see all of it."""
    cases = load_cases(policy.section("cases", CaseSpec), policy.path.parent)
    with tempfile.TemporaryDirectory() as name:
        indexes = BenchIndexes(settings, policy, token_counter(policy_model(policy)), Path(name))
        search = policy.section("answering", AnswerSpec).search
        retriever = load_index(indexes.built({}), indexes.embedder, search)
        topics = Topics(chosen, indexes.embedder, retriever)  # one encoder for both, as in a release's pipeline
        return topic_rows(topics, load_topic_questions(TOPICS), cases, retriever.labels)


def sample_answers(policy: Policy) -> list[str]:
    """Texts as long as answers of a large model: the evidence of four cases after each other."""
    cases = [case for case in load_cases(policy.section("cases", CaseSpec), policy.path.parent) if case.evidence]
    texts = [" ".join(case.evidence) for case in cases]
    return [" ".join(texts[start : start + 4]) for start in range(0, len(texts), 4)]
