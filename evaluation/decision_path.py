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

from collections.abc import Callable

from evaluation.advice import Advice, AdvicePolicy, Because
from evaluation.facts import Facts, Figure, PrecisionFact, Step
from evaluation.findings import Findings, because_of, percent, said
from evaluation.gate import GatePolicy
from evaluation.remedies import Kind


def advise(facts: Facts, policy: AdvicePolicy, gate: GatePolicy, quantization_margin: float | None = None) -> Advice:
    """What to do about a release, in order, from what is known of it.

    `quantization_margin` is that of section `quantization`; None: no precision is looked at.
    """
    case = Findings(facts, policy, gate, quantization_margin)
    if not facts.rules and facts.model_fields_set <= {"release", "tried", "rows", "pairs", "routing"}:
        case.lack("the rules of the gate", "nothing was measured yet", "sluice run nightly")
        case.add(Kind.MEASURE, [said("no release was measured yet")])
        return _told(case)
    paths: tuple[Callable[[Findings], None], ...] = (_safety, _faults, _support, _quality, _style, _precision, _speed)
    for path in paths:
        path(case)
    if not case.steps:
        holds = [said("every rule that could be decided holds")] if case.holds else []
        case.add(Kind.KEEP, holds or [said("nothing that was measured speaks for a change")])
    return _told(case)


def _told(case: Findings) -> Advice:
    return Advice(
        release=case.facts.release,
        recommendations=tuple(case.steps),
        holds=tuple(dict.fromkeys(case.holds)),
        missing=tuple(case.missing),
    )


def _safety(case: Findings) -> None:
    asked = list(case.rules(case.policy.unsafe))
    if not asked:
        case.lack(
            "safety rules", "whether the release is safe is not known", "rules of the gate, then `sluice run release`"
        )
    if because := case.broken(case.policy.unsafe):
        case.add(Kind.GUARDS, because)


def _faults(case: Findings) -> None:
    if because := case.broken(case.policy.failing):
        case.add(Kind.REPAIR, because)


def _support(case: Findings) -> None:
    """Unsupported answers: is the search to blame, or what the model makes of it?"""
    facts, policy = case.facts, case.policy
    unsupported, unfound = case.broken(policy.unsupported), case.broken(policy.unfound)
    search = _below(case, "evidence shown", facts.evidence_shown, "evidence_shown", policy.evidence_shown)
    if unsupported and facts.unsupported_unseen is not None:
        unseen = facts.unsupported_unseen.value
        told = f"of the unsupported answers {percent(unseen)} had not been shown their evidence"
        if unseen >= policy.unseen_share:
            search.append(because_of("unsupported unseen", unseen, policy.unseen_share, "advice.unseen_share", told))
        else:
            unsupported.append(
                because_of("unsupported unseen", unseen, policy.unseen_share, "advice.unseen_share", told)
            )
    if facts.evidence_shown is None and facts.unsupported_unseen is None:
        case.lack("evidence shown", "tells faults of the search from those of the model", "cases with `evidence`")
    if search or unfound:
        found = facts.evidence_found
        where = [said(f"the search ranks {percent(found.value)} of the documents asked about")] if found else []
        case.add(Kind.RETRIEVAL, [*unsupported, *unfound, *search, *where])
    elif unsupported:
        case.add(Kind.GROUNDING, unsupported)


def _quality(case: Findings) -> None:
    """Wrong answers: prompt, then retrieval, then fine-tuning; a repeated pattern is what training is for."""
    facts, policy = case.facts, case.policy
    because = case.broken(None)
    for one in facts.patterns or ():
        if one.share_of_wrong >= policy.pattern_share:
            told = (
                f"{one.group}: {one.wrong} of {one.cases} wrong ({percent(one.rate.value)}, others "
                f"{percent(one.others)}) with the evidence shown; {percent(one.share_of_wrong)} of all that is wrong"
            )
            because.append(
                because_of(one.group, one.share_of_wrong, policy.pattern_share, "advice.pattern_share", told)
            )
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


def _escalate(case: Findings, because: list[Because]) -> None:
    """The steps that were not tried, cheapest first; after the last, more rows of the pattern and a larger model."""
    tried = case.facts.tried
    if tried is None:
        case.lack("tried", "steps that were tried are not repeated", 'facts file: {"tried": ["prompt", "rag"]}')
        tried = frozenset()
    for step, kind in ((Step.PROMPT, Kind.PROMPT), (Step.RAG, Kind.RAG)):
        if step not in tried:
            case.add(kind, [*because, said(f"not tried yet: {step}")])
    _train(case, because, Kind.SFT, case.facts.rows, case.policy.training_rows, "training_rows")
    if Step.FINE_TUNE in tried:
        case.add(Kind.LARGER, [*because, said("tried already: fine-tune; if rows of that kind do not help")])


def _train(case: Findings, because: list[Because], kind: Kind, rows: int | None, least: int, field: str) -> None:
    """Train where there are rows enough; else collect them first."""
    name = field.replace("_", " ")
    if rows is None:
        case.lack(name, "training needs enough of them", "sluice run finetune makes them")
        case.add(kind, because)
        return
    told = f"{name}: {rows:,}, at least {least:,} asked"
    count = because_of(name, rows, least, f"advice.{field}", told)
    case.add(kind if rows >= least else Kind.ROWS, [*because, count])


def _style(case: Findings) -> None:
    style, policy = case.facts.style, case.policy
    if style is None:
        return
    told = f"{percent(style.value)} of right answers are disliked, {percent(policy.style_share)} may be"
    if style.value <= policy.style_share:
        case.holds.append(told)
        return
    because = [because_of("style", style.value, policy.style_share, "advice.style_share", told)]
    _train(case, because, Kind.DPO, case.facts.pairs, policy.preference_pairs, "preference_pairs")


def _precision(case: Findings) -> None:
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
        case.add(Kind.DISTIL, [*weak_ones, said("no precision below bf16 holds: distil where memory or cost binds")])
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
    return because_of(one.precision, low, -margin, "quantization.margin", told)


def _speed(case: Findings) -> None:
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
        told = f"{percent(route.share)} of the questions can go to the small model, saving {percent(route.saved)}"
        saved = because_of("routing saved", route.saved, policy.routing_saved, "advice.routing_saved", told)
        case.add(Kind.ROUTE, [*because, saved])
    else:
        case.holds.append(f"routing was measured and is not worth it: {route.detail or percent(route.saved)} saved")
    case.add(Kind.DISTIL, [*because, *_writing(writing, policy)])


def _writing(share: Figure | None, policy: AdvicePolicy) -> list[Because]:
    if share is None:
        return []
    told = f"{percent(share.value)} of an answer's time goes into writing it"
    return [because_of("generation share", share.value, policy.generation_share, "advice.generation_share", told)]


def _below(case: Findings, name: str, figure: Figure | None, field: str, least: float) -> list[Because]:
    """A reason where a share is below its least; else it is noted as holding."""
    if figure is None:
        return []
    told = f"{name}: {percent(figure.value)}{_range(figure)}, at least {percent(least)} asked"
    if figure.value < least:
        return [because_of(name, figure.value, least, f"advice.{field}", told)]
    case.holds.append(told)
    return []


def _range(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f" [{percent(figure.low)}, {percent(figure.high)}]"
