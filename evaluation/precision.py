"""The rule of the quantization sweep: the cheapest precision that keeps the quality of bf16, or distil instead.

Quality is compared case by case with bf16, as the gate compares a candidate with production (`non_inferior`): over all
cases, and over those of each tag that the policy gives a margin of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evaluation.intervals import ASSUMED_ICC
from evaluation.rules import Measured, decide_paired
from evaluation.types import Decision, Reason
from infra.errors import InputError
from models.quantizing.methods import Precision, bits, is_served
from models.quantizing.spec import Demand, QuantSpec


class Tried(BaseModel):
    """One precision as it was measured. `quality`: case → value in [0, 1]."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    bytes_on_disk: int = 0
    cost_per_good_answer: float | None = None
    """None where the engine has no kernel for it, or nothing was answered well."""
    quality: dict[str, float] = {}
    failure: str = ""
    """Why it was not measured; empty where it was."""


class Finding(BaseModel):
    """What was found of one precision: PASS if every reason is PASS, FAIL if one is FAIL."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    decision: Decision
    reasons: tuple[Reason, ...]

    @property
    def told(self) -> str:
        """What decided, in one line."""
        decisive = [reason for reason in self.reasons if reason.decision == self.decision]
        return "; ".join(f"{reason.rule}: {reason.detail}" for reason in decisive)


class Recommendation(BaseModel):
    """What to serve, and what to do where nothing smaller may be served."""

    model_config = ConfigDict(frozen=True)

    decision: Literal["QUANTIZE", "DISTIL", "UNDECIDED"]
    """QUANTIZE: serve `precision`. DISTIL: no smaller precision keeps the quality. UNDECIDED: the cases do not tell."""
    precision: Precision
    """What to serve now; bf16 unless the decision is QUANTIZE."""
    advice: str
    findings: tuple[Finding, ...]
    """One a precision, from the cheapest to the dearest."""


@dataclass(frozen=True)
class _Asked:
    """What every precision is held against."""

    base: Tried
    tags: Mapping[str, Collection[str]]
    clusters: Mapping[str, str]
    spec: QuantSpec

    def demands(self) -> list[tuple[str, Demand]]:
        """The demands whose tag a compared case has."""
        present = {tag for case in self.base.quality for tag in self.tags.get(case, ())}
        return [(tag, demand) for tag, demand in self.spec.demands.items() if tag in present]


def recommend(
    tried: Sequence[Tried], tags: Mapping[str, Collection[str]], clusters: Mapping[str, str], spec: QuantSpec
) -> Recommendation:
    """The cheapest served precision that is no worse than bf16. `tags`, `clusters`: case → its tags, its cluster.

    Raises: InputError when bf16 is missing or a precision appears twice.
    """
    by_name = {item.precision: item for item in tried}
    if "bf16" not in by_name or len(by_name) < len(tried):
        raise InputError("quantization: every precision must be tried once, and bf16 among them")
    asked = _Asked(by_name["bf16"], tags, clusters, spec)
    others = sorted((item for item in tried if item is not asked.base), key=lambda item: _order(item, spec))
    findings = tuple(_finding(item, asked) for item in others)
    served = [finding for finding in findings if is_served(finding.precision)]
    good = next((finding for finding in served if finding.decision == "PASS"), None)
    open_ones = [finding for finding in served if finding.decision == "UNDECIDED"]
    if good:
        advice = f"serve {good.precision}: {good.told}{_smaller(findings, good)}"
        return Recommendation(decision="QUANTIZE", precision=good.precision, advice=advice, findings=findings)
    if open_ones:
        told = "; ".join(f"{finding.precision}: {finding.told}" for finding in open_ones)
        advice = f"keep bf16 until there are more questions ({told}), or distil: sluice run distill"
        return Recommendation(decision="UNDECIDED", precision="bf16", advice=advice, findings=findings)
    why = "every smaller precision that the engine serves fails" if served else "the engine serves none that was tried"
    advice = f"keep bf16, and distil for fewer bytes (sluice run distill): {why}{_smaller(findings, None)}"
    return Recommendation(decision="DISTIL", precision="bf16", advice=advice, findings=findings)


def price(item: Tried, spec: QuantSpec) -> float | None:
    """What the rule counts as the cost of a precision; None where it is not known."""
    return float(item.bytes_on_disk) if spec.cost == "bytes" else item.cost_per_good_answer


def _order(item: Tried, spec: QuantSpec) -> tuple[bool, float, str]:
    """From the cheapest; what has no price, or failed, last."""
    cost = price(item, spec)
    return bool(item.failure) or cost is None, cost or 0.0, item.precision


def _finding(item: Tried, asked: _Asked) -> Finding:
    """All reasons for and against one precision."""
    reasons = (
        [_failure(item)] if item.failure else [_cheaper(item, asked), *_bits(item, asked), *_qualities(item, asked)]
    )
    decisions = {reason.decision for reason in reasons}
    worst: Decision = "FAIL" if "FAIL" in decisions else "UNDECIDED" if "UNDECIDED" in decisions else "PASS"
    return Finding(precision=item.precision, decision=worst, reasons=tuple(reasons))


def _failure(item: Tried) -> Reason:
    return Reason(rule="not served", decision="FAIL", detail=item.failure)


def _cheaper(item: Tried, asked: _Asked) -> Reason:
    """Whether it costs less than bf16; the quality of what has no price is looked at all the same."""
    cost, base = price(item, asked.spec), price(asked.base, asked.spec)
    if cost is None or base is None:
        return Reason(rule="cost", decision="PASS", detail="no price: the engine does not compute with it")
    told = f"{cost / base:.0%} of what bf16 costs" if base else "bf16 costs nothing"
    return Reason(rule="cost", decision="PASS" if cost < base else "FAIL", detail=told, value=cost, threshold=base)


def _bits(item: Tried, asked: _Asked) -> list[Reason]:
    """What the tags of the cases demand in bits."""
    own = bits(item.precision)
    return [
        Reason(
            rule=f"bits for {tag}",
            decision="PASS" if own >= demand.bits else "FAIL",
            detail=f"{own} bits, at least {demand.bits} demanded",
            value=own,
            threshold=demand.bits,
        )
        for tag, demand in asked.demands()
        if demand.bits > 1
    ]


def _qualities(item: Tried, asked: _Asked) -> list[Reason]:
    """No worse than bf16 over all cases, and over those of every tag with a margin of its own."""
    base = asked.base.quality
    paired = {case: value - base[case] for case, value in item.quality.items() if case in base}
    sets = [("quality", asked.spec.margin, paired)]
    for tag, demand in asked.demands():
        if demand.margin is not None:
            own = {case: value for case, value in paired.items() if tag in asked.tags.get(case, ())}
            sets.append((f"quality for {tag}", demand.margin, own))
    return [_no_worse(label, margin, values, asked) for label, margin, values in sets]


def _no_worse(label: str, margin: float, values: Mapping[str, float], asked: _Asked) -> Reason:
    if not values:
        return Reason(rule=label, decision="UNDECIDED", detail="no case was answered by both")
    spec = asked.spec
    return decide_paired(
        Measured(
            label=label,
            values=values,
            clusters=asked.clusters,
            value=margin,
            alpha=spec.alpha,
            power=spec.power,
            assumed_icc=ASSUMED_ICC,
        )
    )


def _smaller(findings: Sequence[Finding], chosen: Finding | None) -> str:
    """What would keep the quality and be cheaper still, if the engine had a kernel for it."""
    end = findings.index(chosen) if chosen else len(findings)
    names = [
        finding.precision
        for finding in findings[:end]
        if finding.decision == "PASS" and not is_served(finding.precision)
    ]
    return f"; {', '.join(names)} would do on an engine with a kernel for it" if names else ""
