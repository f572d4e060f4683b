"""The decision path: measured facts → what to do first, what next, why, and what would change that. Pure.

In this order (docs/decisions/decision-path.md has the sources):

unsafe                      guards, before anything else
failing                     mend the parts that fail: their figures say nothing about the model
unsupported answers         retrieval, where the evidence was not shown; grounding, where it was
wrong, in a pattern         prompt → RAG → supervised fine-tuning, the next one that was not tried
right and disliked          preference optimization
weak after quantization     more bits, better calibration; where no precision holds, distil
slow or costly              serving, where the model is not the reason; else route, distil
"""

from collections.abc import Callable, Iterator

from evaluation.advice import Advice, AdvicePolicy, Because, Missing, Recommendation
from evaluation.facts import Facts, Figure, PrecisionFact, RuleFact, Step
from evaluation.gate import GatePolicy, Rule
from evaluation.remedies import REMEDIES, Kind
from evaluation.types import Decision


class _Case:
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


def advise(facts: Facts, policy: AdvicePolicy, gate: GatePolicy, quantization_margin: float | None = None) -> Advice:
    """What to do about a release, in order, from what is known of it.

    `quantization_margin` is that of section `quantization`; None: no precision is looked at.
    """
    case = _Case(facts, policy, gate, quantization_margin)
    if not facts.rules and facts.model_fields_set <= {"release", "tried", "rows", "pairs"}:
        case.lack("the rules of the gate", "nothing was measured yet", "sluice run nightly")
        case.add(Kind.MEASURE, [_plain("no release was measured yet")])
        return _told(case)
    paths: tuple[Callable[[_Case], None], ...] = (_safety, _faults, _support, _quality, _style, _precision, _speed)
    for path in paths:
        path(case)
    if not case.steps:
        holds = [_plain("every rule that could be decided holds")] if case.holds else []
        case.add(Kind.KEEP, holds or [_plain("nothing that was measured speaks for a change")])
    return _told(case)


def _told(case: _Case) -> Advice:
    return Advice(
        release=case.facts.release,
        recommendations=tuple(case.steps),
        holds=tuple(dict.fromkeys(case.holds)),
        missing=tuple(case.missing),
    )


def _safety(case: _Case) -> None:
    asked = list(case.rules(case.policy.unsafe))
    if not asked:
        case.lack(
            "safety rules", "whether the release is safe is not known", "rules of the gate, then `sluice run release`"
        )
    if because := case.broken(case.policy.unsafe):
        case.add(Kind.GUARDS, because)


def _faults(case: _Case) -> None:
    if because := case.broken(case.policy.failing):
        case.add(Kind.REPAIR, because)


def _support(case: _Case) -> None:
    """Unsupported answers: is the search to blame, or what the model makes of it?"""
    facts, policy = case.facts, case.policy
    unsupported, unfound = case.broken(policy.unsupported), case.broken(policy.unfound)
    search = _below(case, "evidence shown", facts.evidence_shown, "evidence_shown", policy.evidence_shown)
    if unsupported and facts.unsupported_unseen is not None:
        unseen = facts.unsupported_unseen.value
        told = f"of the unsupported answers {_percent(unseen)} had not been shown their evidence"
        if unseen >= policy.unseen_share:
            search.append(_because("unsupported unseen", unseen, policy.unseen_share, "advice.unseen_share", told))
        else:
            unsupported.append(_because("unsupported unseen", unseen, policy.unseen_share, "advice.unseen_share", told))
    if facts.evidence_shown is None and facts.unsupported_unseen is None:
        case.lack("evidence shown", "tells faults of the search from those of the model", "cases with `evidence`")
    if search or unfound:
        found = facts.evidence_found
        where = [_plain(f"the search ranks {_percent(found.value)} of the documents asked about")] if found else []
        case.add(Kind.RETRIEVAL, [*unsupported, *unfound, *search, *where])
    elif unsupported:
        case.add(Kind.GROUNDING, unsupported)


def _quality(case: _Case) -> None:
    """Wrong answers: prompt, then retrieval, then fine-tuning; a repeated pattern is what training is for."""
    facts, policy = case.facts, case.policy
    because = case.broken(None)
    for one in facts.patterns or ():
        if one.share_of_wrong >= policy.pattern_share:
            told = (
                f"{one.group}: {one.wrong} of {one.cases} wrong ({_percent(one.rate.value)}, others "
                f"{_percent(one.others)}) with the evidence shown; {_percent(one.share_of_wrong)} of all that is wrong"
            )
            because.append(_because(one.group, one.share_of_wrong, policy.pattern_share, "advice.pattern_share", told))
    if facts.patterns is None:
        case.lack(
            "patterns",
            "whether wrong answers share a kind decides about fine-tuning",
            "cases with tags; `sluice run release`",
        )
    elif not facts.patterns:
        case.holds.append("no group of questions goes wrong more often than the others with the evidence shown")
    if because:
        _escalate(case, because)


def _escalate(case: _Case, because: list[Because]) -> None:
    """The steps that were not tried, cheapest first; after the last, more rows of the pattern and a larger model."""
    tried = case.facts.tried
    if tried is None:
        case.lack("tried", "steps that were tried are not repeated", 'facts file: {"tried": ["prompt", "rag"]}')
        tried = frozenset()
    for step, kind in ((Step.PROMPT, Kind.PROMPT), (Step.RAG, Kind.RAG)):
        if step not in tried:
            case.add(kind, [*because, _plain(f"not tried yet: {step}")])
    _train(case, because, Kind.SFT, case.facts.rows, case.policy.training_rows, "training_rows")
    if Step.FINE_TUNE in tried:
        case.add(Kind.LARGER, [*because, _plain("tried already: fine-tune; if rows of that kind do not help")])


def _train(case: _Case, because: list[Because], kind: Kind, rows: int | None, least: int, field: str) -> None:
    """Train where there are rows enough; else collect them first."""
    name = field.replace("_", " ")
    if rows is None:
        case.lack(name, "training needs enough of them", "sluice run finetune makes them")
        case.add(kind, because)
        return
    told = f"{name}: {rows:,}, at least {least:,} asked"
    count = _because(name, rows, least, f"advice.{field}", told)
    case.add(kind if rows >= least else Kind.ROWS, [*because, count])


def _style(case: _Case) -> None:
    style, policy = case.facts.style, case.policy
    if style is None:
        return
    told = f"{_percent(style.value)} of right answers are disliked, {_percent(policy.style_share)} may be"
    if style.value <= policy.style_share:
        case.holds.append(told)
        return
    because = [_because("style", style.value, policy.style_share, "advice.style_share", told)]
    _train(case, because, Kind.DPO, case.facts.pairs, policy.preference_pairs, "preference_pairs")


def _precision(case: _Case) -> None:
    """The served precision against bf16; and whether any smaller one holds."""
    if case.margin is None:
        return
    if case.facts.precisions is None:
        case.lack("precisions", "what fewer bits cost is not known", "sluice run quantize")
        return
    served = next((one for one in case.facts.precisions if one.is_served), None)
    if served and (weak := _weak(served, case.margin)):
        case.add(Kind.BITS, [weak])
    smaller = [one for one in case.facts.precisions if one.difference is not None]
    weak_ones = [weak for one in smaller if (weak := _weak(one, case.margin))]
    if smaller and len(weak_ones) == len(smaller):
        case.add(Kind.BITS, weak_ones)
        case.add(Kind.DISTIL, [*weak_ones, _plain("no precision below bf16 holds: distil where memory or cost binds")])
    elif smaller:
        case.holds.append(
            f"{len(smaller) - len(weak_ones)} of {len(smaller)} smaller precisions lose no more than the margin"
        )


def _weak(one: PrecisionFact, margin: float) -> Because | None:
    """A reason where the precision may lose more than the margin."""
    if one.difference is None:
        return None
    low = one.difference.value if one.difference.low is None else one.difference.low
    if low > -margin:
        return None
    told = f"{one.precision}: {one.difference.value:+.3f} against bf16, bound {low:+.3f}, margin −{margin:g}"
    return _because(one.precision, low, -margin, "quantization.margin", told)


def _speed(case: _Case) -> None:
    """Slow or costly: first what is no fault of the model, then routing, then a smaller model."""
    facts, policy = case.facts, case.policy
    slow, costly = case.broken(policy.slow), case.broken(policy.costly)
    if not slow and not costly:
        return
    writing = facts.generation_share
    if slow and writing is None:
        case.lack("generation share", "tells a slow model from slow serving and search", "traces; `sluice run release`")
    if slow and (writing is None or writing.value < policy.generation_share):
        case.add(Kind.SERVING, [*slow, *_writing(writing, policy)])
        if not costly and writing is not None:
            return
    because = [*slow, *costly]
    route = facts.routing
    if route is None:
        case.lack("routing", "how many questions a smaller model can take is not known", "sluice run difficulty")
    elif route.share > 0 and route.saved >= policy.routing_saved:
        told = f"{_percent(route.share)} of the questions can go to the small model, saving {_percent(route.saved)}"
        saved = _because("routing saved", route.saved, policy.routing_saved, "advice.routing_saved", told)
        case.add(Kind.ROUTE, [*because, saved])
    else:
        case.holds.append(f"routing was measured and is not worth it: {route.detail or _percent(route.saved)} saved")
    case.add(Kind.DISTIL, [*because, *_writing(writing, policy)])


def _writing(share: Figure | None, policy: AdvicePolicy) -> list[Because]:
    if share is None:
        return []
    told = f"{_percent(share.value)} of an answer's time goes into writing it"
    return [_because("generation share", share.value, policy.generation_share, "advice.generation_share", told)]


def _below(case: _Case, name: str, figure: Figure | None, field: str, least: float) -> list[Because]:
    """A reason where a share is below its least; else it is noted as holding."""
    if figure is None:
        return []
    told = f"{name}: {_percent(figure.value)}{_range(figure)}, at least {_percent(least)} asked"
    if figure.value < least:
        return [_because(name, figure.value, least, f"advice.{field}", told)]
    case.holds.append(told)
    return []


def _because(figure: str, value: float, threshold: float, source: str, told: str) -> Because:
    return Because(figure=figure, value=value, threshold=threshold, source=source, told=told)


def _plain(told: str) -> Because:
    return Because(figure="", value=None, threshold=None, source="", told=told)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _range(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f" [{_percent(figure.low)}, {_percent(figure.high)}]"


def _spelt(rule: Rule) -> str:
    """A rule in words: `faithfulness (absolute)`."""
    name, _, kind = rule.label.rpartition(": ")
    return f"{name} ({kind})"


def _against(value: float | None, limit: float, rule: Rule) -> str:
    is_most = (rule.direction == "lower" and rule.kind == "absolute") or rule.kind == "zero"
    asked = f"at {'most' if is_most else 'least'} {limit:,.4g} asked"
    return "not measured" if value is None else f"{value:,.4g}, {asked}"
