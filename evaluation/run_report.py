"""What the report of one night says: plain values, each from a stage's result. `report.py` turns them into a page."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evaluation.arms import CanaryDecision
from evaluation.gate import GatePolicy, Profile, Rule
from evaluation.types import Decision, Interval, Reason, Verdict

SPELT = {"pii": "PII", "f1": "F1", "rouge": "ROUGE", "l": "L", "bleu": "BLEU", "mrr": "MRR", "ndcg": "nDCG"}
"""Parts of names that are written in their own way."""


def words(name: str) -> str:
    """A metric's or rule's name as words."""
    return " ".join(SPELT.get(part, part) for part in name.split("_"))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageLine(_Frozen):
    """One stage of the night."""

    name: str
    status: Literal["done", "cached", "failed"]
    seconds: float
    computed: int
    """Units of work done now; 0 where the kept result was used."""
    total: int


class Change(_Frozen):
    """One part of the release that differs from the one before."""

    part: str
    before: str
    after: str


class QuarantineLine(_Frozen):
    """A document that was not used, and why."""

    document: str
    reason: str


class DuplicateLine(_Frozen):
    """A document that repeats a newer one, how alike they are (Jaccard), and whether it was dropped or kept."""

    document: str
    repeats: str
    similarity: float
    outcome: Literal["dropped", "kept"]
    reason: str


class RetrievalLine(_Frozen):
    """Retrieval metrics of one mode (dense, lexical, hybrid), as means over `cases`."""

    mode: str
    cases: int
    metrics: dict[str, float]


class MetricLine(_Frozen):
    """One metric of both releases on the same cases."""

    metric: str
    candidate: Interval | None
    production: Interval | None = None


class GateLine(_Frozen):
    """One rule of a gate with the value that applied, and the values for real models and for the sample beside it."""

    rule: str
    kind: str
    decision: Decision
    detail: str
    value: float | None
    bound: float | None
    applied: float | None
    production: float
    """Value for real models (R1)."""
    production_met: bool | None
    """Whether it would hold here; None where the rule could not be measured."""
    floor: float | None
    """Value of the built-in sample model, where it differs."""
    first_release: float | None
    """Floor while no production release exists."""


class GateReport(_Frozen):
    """One verdict with its rules."""

    title: str
    decision: Decision
    profile: Profile
    first_release: bool
    candidate: str
    production: str | None
    lines: tuple[GateLine, ...]


class QuantizationLine(_Frozen):
    """One precision of the candidate's model, measured on the engine."""

    precision: str
    bytes_on_disk: int
    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    quality: Interval | None = None
    """Answer correctness on the validation cases."""
    difference: Interval | None = None
    """Paired difference of it against bf16; None for bf16 itself."""
    chosen: bool = False


class Figure(_Frozen):
    """One named number with its unit: a benchmark figure, a cost."""

    name: str
    value: float
    unit: str = ""


class Source(_Frozen):
    """A source of an answer."""

    number: int
    title: str
    document: str
    text: str = ""


class Asked(_Frozen):
    """A question asked through the gateway after the decision."""

    question: str
    answer: str
    refused: bool
    sources: tuple[Source, ...]
    release: str
    trace_id: str
    latency_ms: float


class Link(_Frozen):
    """A place to look further."""

    label: str
    url: str


class RunReport(_Frozen):
    """Everything on the page. A part that did not run is empty or None, and its section says so or is left out."""

    project: str
    started: str
    """Local time, as shown."""
    seconds: float
    verdict: Literal["PASS", "FAIL", "UNDECIDED", "UNCHANGED"]
    canary_end: Literal["PROMOTED", "HELD", "ROLLED_BACK", "INCONCLUSIVE", "NONE"]
    release: str
    """Digest of the release that serves now."""
    candidate: str
    previous: str | None
    changes: tuple[Change, ...] = ()
    stages: tuple[StageLine, ...] = ()
    documents_read: int = 0
    chunks_total: int = 0
    chunks_embedded: int = 0
    quarantined: tuple[QuarantineLine, ...] = ()
    duplicates: tuple[DuplicateLine, ...] = ()
    duplicates_dropped: int = 0
    retrieval: tuple[RetrievalLine, ...] = ()
    metrics: tuple[MetricLine, ...] = ()
    gates: tuple[GateReport, ...] = ()
    canary: CanaryDecision | None = None
    canary_simulated: bool = True
    """Whether thumbs came from a simulated user."""
    quantization: tuple[QuantizationLine, ...] = ()
    quantization_why: str = ""
    benchmark: tuple[Figure, ...] = ()
    training_curve: tuple[tuple[int, float], ...] = ()
    """(step, loss)."""
    asked: tuple[Asked, ...] = ()
    costs: tuple[Figure, ...] = ()
    machine: dict[str, str] = {}
    links: tuple[Link, ...] = ()
    simplified: tuple[str, ...] = ()
    """What this night does in a simpler way than a real one, in sentences."""

    @property
    def headline(self) -> str:
        """One sentence: what was decided."""
        if self.verdict == "UNCHANGED":
            return "Nothing changed: the release that serves stays."
        if self.verdict == "FAIL":
            return "The gate refused the candidate: the release that serves stays."
        if self.verdict == "UNDECIDED":
            return "The gate could not decide: the candidate does not ship, the release that serves stays."
        return {
            "PROMOTED": "The candidate passed the gate and the canary and serves now.",
            "HELD": "The candidate passed the gate; the canary could not decide, and a person has to.",
            "ROLLED_BACK": "The candidate passed the gate, but the canary found harm and rolled it back.",
            "INCONCLUSIVE": "The candidate passed the gate; the canary saw no traffic.",
            "NONE": "The candidate passed the gate.",
        }[self.canary_end]


def _production_met(rule: Rule, reason: Reason) -> bool | None:
    """Whether the rule would hold with its production value, by what it measured."""
    if reason.value is None:
        return None
    if rule.kind in ("zero", "success"):
        return reason.decision == "PASS"
    if rule.kind == "non_inferior":
        return reason.bound is not None and reason.bound > -rule.production
    tested = reason.value if rule.test == "mean" else reason.bound
    if tested is None:
        return False
    return tested >= rule.production if rule.direction == "higher" else tested <= rule.production


def gate_report(title: str, verdict: Verdict, policy: GatePolicy) -> GateReport:
    """A verdict beside the policy it was decided by, in the verdict's order."""
    rules = {rule.label: rule for rule in policy.rules}
    lines = tuple(
        GateLine(
            rule=reason.rule.split(":")[0],
            kind=rules[reason.rule].kind,
            decision=reason.decision,
            detail=reason.detail,
            value=reason.value,
            bound=reason.bound,
            applied=rules[reason.rule].value(policy.profile, verdict.first_release),
            production=rules[reason.rule].production,
            production_met=_production_met(rules[reason.rule], reason),
            floor=rules[reason.rule].floor,
            first_release=rules[reason.rule].first_release,
        )
        for reason in verdict.reasons
    )
    return GateReport(
        title=title,
        decision=verdict.decision,
        profile=policy.profile,
        first_release=verdict.first_release,
        candidate=verdict.candidate,
        production=verdict.production,
        lines=lines,
    )


def metric_lines(candidate: Mapping[str, Interval], production: Mapping[str, Interval]) -> tuple[MetricLine, ...]:
    """Both releases' tables (`metrics.table`) side by side, in the candidate's order."""
    names = dict.fromkeys((*candidate, *production))
    return tuple(MetricLine(metric=it, candidate=candidate.get(it), production=production.get(it)) for it in names)
