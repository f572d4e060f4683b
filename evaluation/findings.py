"""What is found on the way down the decision path: recommendations with their reasons, what holds, what is missing."""

from collections.abc import Iterator

from evaluation.advice import AdvicePolicy, Because, Missing, Recommendation
from evaluation.facts import Facts, RuleFact
from evaluation.gate import GatePolicy, Rule
from evaluation.remedies import REMEDIES, Kind
from evaluation.types import Decision


class Findings:
    """Facts and policies of one question for advice, and what is found on the way."""

    def __init__(self, facts: Facts, policy: AdvicePolicy, gate: GatePolicy, quantization_margin: float | None) -> None:
        self.facts, self.policy, self.gate, self.margin = facts, policy, gate, quantization_margin
        self.holds: list[str] = []
        self.missing: list[Missing] = []
        self.steps: list[Recommendation] = []

    def add(self, kind: Kind, because: list[Because]) -> None:
        """One more recommendation; a kind that is there takes the reasons it has not."""
        for place, step in enumerate(self.steps):
            if step.kind == kind:
                more = tuple(one for one in because if one not in step.because)
                self.steps[place] = step.model_copy(update={"because": (*step.because, *more)})
                return
        remedy = REMEDIES[kind]
        step = Recommendation(kind=kind, do=remedy.do, because=tuple(because), how=remedy.how, changes=remedy.changes)
        self.steps.append(step)

    def lack(self, fact: str, matters: str, measure: str) -> None:
        """Say that a fact is missing."""
        self.missing.append(Missing(fact=fact, matters=matters, measure=measure))

    def rules(self, metrics: tuple[str, ...] | None) -> Iterator[tuple[Rule, RuleFact, Decision]]:
        """The measured rules about these metrics; None: about none that the policy's lists name. Success rules apart:
        a release without a gain is not faulty."""
        policy = self.policy
        named = {
            *policy.unsafe, *policy.unsupported, *policy.unfound, *policy.failing, *policy.slow, *policy.costly
        }  # fmt: skip
        for rule in self.gate.rules:
            fact = self.facts.rules.get(rule.label)
            wanted = rule.metric in metrics if metrics is not None else rule.metric not in named
            if fact is not None and wanted and rule.kind != "success":
                yield rule, fact, fact.decided(rule, self.gate)

    def broken(self, metrics: tuple[str, ...] | None) -> list[Because]:
        """Reasons for the rules about these metrics that fail. What holds and what is undecided is noted."""
        found = []
        for rule, fact, decision in self.rules(metrics):
            limit = fact.limit(rule, self.gate)
            told = f"{_spelt(rule)}: {fact.detail or _against(fact.value, limit, rule)}"
            if decision == "FAIL":
                found.append(
                    Because(figure=rule.label, value=fact.value, threshold=limit, source="gate.rules", told=told)
                )
            elif decision == "PASS":
                self.holds.append(told)
            else:
                self.lack(_spelt(rule), told.partition(": ")[2], "more cases of this kind, then `sluice run release`")
        return found


def because_of(figure: str, value: float, threshold: float, source: str, told: str) -> Because:
    """A reason of the section `advice` or `quantization`."""
    return Because(figure=figure, value=value, threshold=threshold, source=source, told=told)


def said(told: str) -> Because:
    """A reason without a figure."""
    return Because(figure="", value=None, threshold=None, source="", told=told)


def percent(share: float) -> str:
    """A share in three digits: `41.5 %`."""
    return f"{100 * share:.3g} %"


def _spelt(rule: Rule) -> str:
    """A rule in words: `faithfulness (absolute)`."""
    name, _, kind = rule.label.rpartition(": ")
    return f"{name} ({kind})"


def _against(value: float | None, limit: float, rule: Rule) -> str:
    """A figure and what is asked of it: `0.6, at least 0.9 asked`."""
    is_most = (rule.direction == "lower" and rule.kind == "absolute") or rule.kind == "zero"
    asked = f"at {'most' if is_most else 'least'} {limit:,.4g} asked"
    return "not measured" if value is None else f"{value:,.4g}, {asked}"
