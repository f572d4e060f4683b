"""Facts that the decision path looks at: what was measured of a release, and which faults come again and again."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from evaluation.gate import GatePolicy, Rule
from evaluation.intervals import mean_interval
from evaluation.metrics import case_values, vector
from evaluation.statistics import cluster_codes, clusters_of
from evaluation.types import Decision, Observation, Reason, Score
from infra.settings import Spec

QUALITY = "answer_correct"


class Step(StrEnum):
    """What a project may have tried to get better answers, in the order of cost and effort."""

    PROMPT = "prompt"
    RAG = "rag"
    FINE_TUNE = "fine-tune"


class Figure(Spec):
    """A measured number, with its interval where there is one. In JSON a bare number will do."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """Cases behind it."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, int | float) else given


class RuleFact(Spec):
    """One rule of the gate as it was measured. In JSON a bare number will do: it is held against the policy's value."""

    value: float | None = None
    bound: float | None = None
    """The one-sided bound; None: the estimate alone is held against the threshold."""
    threshold: float | None = None
    """What it was held against; None: the policy's value."""
    decision: Decision | None = None
    """How the gate decided; None: decided from the figures."""
    detail: str = ""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, int | float) else given

    def decided(self, rule: Rule, gate: GatePolicy) -> Decision:
        """The gate's decision, or the one that value and bound give against the policy's threshold."""
        if self.decision is not None:
            return self.decision
        if self.value is None:
            return "UNDECIDED"
        limit = self.limit(rule, gate)
        if rule.kind == "zero":
            return "FAIL" if self.value > 0 else "PASS"
        sign = 1.0 if rule.direction == "higher" or rule.kind != "absolute" else -1.0
        if sign * (self.value - limit) < 0:
            return "FAIL"
        is_sure = self.bound is None or rule.test == "mean" or sign * (self.bound - limit) >= 0
        return "PASS" if is_sure else "UNDECIDED"

    def limit(self, rule: Rule, gate: GatePolicy) -> float:
        """The threshold: of a paired rule the least difference (−margin), of a zero rule 0."""
        if self.threshold is not None:
            return self.threshold
        value = rule.value(gate.profile)
        return -value if rule.kind == "non_inferior" else value


class Pattern(Spec):
    """A group of questions that the model gets wrong more often than others although the evidence was shown."""

    group: str
    """A tag, or a folder of the documents asked about."""
    cases: int
    wrong: int
    share_of_wrong: float
    """Of all that the model got wrong with the evidence before it, the share in this group."""
    rate: Figure
    """Share wrong in the group; its bound is corrected for the number of groups that were looked at."""
    others: float
    """Share wrong in all other questions."""


class PrecisionFact(Spec):
    """A precision of the model beside bf16, as measured on the engine."""

    precision: str
    difference: Figure | None = None
    """Paired difference of quality to bf16; None for bf16 itself."""
    is_served: bool = False
    """Whether the release in question has it."""


class RoutingFact(Spec):
    """What routing by the difficulty classifier was measured to be worth."""

    share: float
    """Share of the questions that may go to the small model; 0: none."""
    saved: float
    """Share of the cost that this saves."""
    detail: str = ""


class Facts(Spec):
    """Everything the decision path looks at. None or empty: not measured, and the advice says what to measure."""

    release: str = ""
    """Digest of the release that was measured."""
    rules: dict[str, RuleFact] = Field(default_factory=dict)
    """Rule of the gate by its label (`faithfulness: absolute`) → what was measured."""
    evidence_found: Figure | None = None
    """Share of the documents asked about that the search ranked at all (recall of the ranked list)."""
    evidence_shown: Figure | None = None
    """Share of the evidences that stood before the model (context recall)."""
    unsupported: Figure | None = None
    """Share of the answers that say something which no cited source states."""
    unsupported_unseen: Figure | None = None
    """Of those, the share whose evidence had not been shown."""
    wrong: Figure | None = None
    """Share of the questions answered wrongly."""
    patterns: tuple[Pattern, ...] | None = None
    """Groups that go wrong again and again; empty: looked for and not found."""
    generation_share: Figure | None = None
    """Share of an answer's time in which the model writes."""
    precisions: tuple[PrecisionFact, ...] | None = None
    routing: RoutingFact | None = None
    style: Figure | None = None
    """Share of rated answers that were right and disliked all the same: tone, length, format."""
    rows: int | None = None
    """Rows of training data at hand."""
    pairs: int | None = None
    """Preference pairs at hand."""
    tried: frozenset[Step] | None = None
    """What was tried so far."""

    def over(self, other: "Facts") -> "Facts":
        """These facts, and `other`'s where these are silent."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return other.model_copy(update=given)


def rule_facts(reasons: Sequence[Reason]) -> dict[str, RuleFact]:
    """A verdict's reasons by their rules."""
    return {reason.rule: RuleFact.model_validate(reason.model_dump(exclude={"rule"})) for reason in reasons}


def answer_facts(
    observations: Sequence[Observation], scores: Sequence[Score], gate: GatePolicy, least_wrong: int
) -> Facts:
    """What kept answers and their scores say; a group needs `least_wrong` wrong answers to be a pattern."""
    clusters = clusters_of([row.case for row in observations])
    shown, faithful = case_values(scores, "context_recall"), case_values(scores, "faithfulness")
    right = case_values(scores, QUALITY)
    loose = {case: float(value < 1) for case, value in faithful.items()}
    unseen = {case: float(shown[case] < 1) for case, bad in loose.items() if bad and case in shown}
    found = {
        row.case.id: len(set(row.case.documents) & set(row.answer.retrieved)) / len(set(row.case.documents))
        for row in observations
        if row.case.documents and row.case.expected == "answer"
    }
    times = {row.case.id: share for row in observations if (share := _writing(row)) is not None}
    return Facts(
        release=observations[0].answer.release if observations else "",
        evidence_found=_figure(found, clusters),
        evidence_shown=_figure(shown, clusters),
        unsupported=_figure(loose, clusters),
        unsupported_unseen=_figure(unseen, clusters),
        wrong=_figure({case: 1 - value for case, value in right.items()}, clusters),
        patterns=find_patterns(observations, right, shown, gate, least_wrong),
        generation_share=_figure(times, clusters),
    )


def find_patterns(
    observations: Sequence[Observation],
    right: Mapping[str, float],
    shown: Mapping[str, float],
    gate: GatePolicy,
    least_wrong: int,
) -> tuple[Pattern, ...]:
    """Tags and document folders whose share of wrong answers is above that of all other questions, most wrong first.

    Only questions whose evidence was shown count (or that name none): the others are the search's. The one-sided bound
    of a group's share, at the gate's level divided by the number of groups (Bonferroni), must lie above the others'.
    """
    asked = {row.case.id: row for row in observations if row.case.id in right and shown.get(row.case.id, 1.0) == 1}
    clusters = clusters_of([row.case for row in asked.values()])
    groups: dict[str, list[str]] = {}
    for case, row in asked.items():
        for name in _groups(row):
            groups.setdefault(name, []).append(case)
    wrong = {case: float(right[case] < 1) for case in asked}
    total = sum(wrong.values())
    tested = {name: own for name, own in groups.items() if sum(wrong[case] for case in own) >= least_wrong}
    found = []
    for name, own in tested.items():
        others = [value for case, value in wrong.items() if case not in set(own)]
        values = {case: wrong[case] for case in own}
        confidence = 1 - 2 * gate.alpha / len(tested)
        rate = mean_interval(vector(values), cluster_codes(own, clusters), confidence, gate.assumed_icc)
        if others and rate.low > float(np.mean(others)):
            bad = int(sum(values.values()))
            found.append(
                Pattern(
                    group=name,
                    cases=len(own),
                    wrong=bad,
                    share_of_wrong=bad / total,
                    rate=Figure(value=rate.mean, low=rate.low, high=rate.high, n=rate.n),
                    others=float(np.mean(others)),
                )
            )
    return tuple(sorted(found, key=lambda one: (-one.wrong, one.group)))


def _groups(row: Observation) -> list[str]:
    folders = sorted({name.rsplit("/", 1)[0] for name in row.case.documents if "/" in name})
    return [*(f"tag {tag}" for tag in row.case.tags), *(f"documents {folder}/" for folder in folders)]


def _writing(row: Observation) -> float | None:
    """Share of one answer's time in which the model wrote; None for an answer that needed no model."""
    spent = sum(span.end_ns - span.start_ns for span in row.answer.spans if span.name == "generate") / 1e6
    return min(1.0, spent / row.answer.latency_ms) if spent and row.answer.latency_ms else None


def _figure(values: Mapping[str, float], clusters: Mapping[str, str]) -> Figure | None:
    if not values:
        return None
    found = mean_interval(vector(values), cluster_codes(list(values), clusters))
    return Figure(value=found.mean, low=found.low, high=found.high, n=found.n)
