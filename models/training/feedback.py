"""Rows from production: corrections become answers to learn, and better and worse answers become pairs.

The prompt is rebuilt from the passages of the trace, as production rendered it. What users write is not trusted: a
correction is learnt only if the passages that the answer was made from support it, and it holds nobody's data.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from pydantic import Field

from infra.records import Rated, Records
from infra.settings import Spec
from models.answering.guards.grounding import grounded_share
from models.prompts import MARK, Prompt, answer_parts, is_refusal, render
from models.training.contamination import plain
from models.training.curation import Kind, Refused
from models.training.evidence import contains
from models.training.gathered import Gathered, GatheredRow, HasPersonal
from models.training.rows import PreferenceRow, TrainingRow
from models.training.support import SupportSpec, flaw
from models.types import Citation, Message

_REDACTED = re.compile(r"<[A-Z][A-Z_]+>")
_PAGE = 1000


class FeedbackSpec(Spec):
    """Which ratings are learnt from."""

    simulated: bool = False
    """Also take ratings of programs that play a user."""
    pairs: bool = True
    """Also make pairs for preference optimization: correction against answer, an answer liked against one disliked."""
    support: SupportSpec = SupportSpec()
    """What a correction has to show in the passages that its answer was made from."""


class RatedAnswer(Spec):
    """An answer of production as it was rated: what is kept of a trace for training."""

    trace: str
    question: str
    answer: str
    """Without the numbers of the passages that it cites."""
    refused: bool
    cited: tuple[int, ...] = ()
    passages: tuple[Citation, ...] = ()
    rating: int = Field(ge=-1, le=1)
    """The last one given."""
    correction: str = ""
    """The last one given, as the user wrote it, redacted."""

    @property
    def source(self) -> str:
        """The source of its rows."""
        return f"feedback:{self.trace}"

    @property
    def asked(self) -> tuple[str, ...]:
        """What makes two prompts the same: the question and the passages in their order."""
        return (plain(self.question), *(passage.text for passage in self.passages))


def rated_answers(records: Records, simulated: bool) -> list[RatedAnswer]:
    """Every rated answer, in the order of its last rating. Answers that failed and gave the fallback are left out."""
    found: dict[str, RatedAnswer] = {}
    for trace, feedback in _all_rated(records, simulated):
        if trace.error:
            continue
        before = found.pop(trace.trace_id, None)
        found[trace.trace_id] = RatedAnswer(
            trace=trace.trace_id,
            question=trace.question,
            answer=trace.answer,
            refused=trace.refused,
            cited=tuple(trace.citations),
            passages=tuple(Citation.model_validate(passage) for passage in trace.passages),
            rating=feedback.rating,
            correction=feedback.correction.strip() or (before.correction if before else ""),
        )
    return list(found.values())


def _all_rated(records: Records, simulated: bool) -> Iterator[Rated]:
    after = 0
    while page := records.rated(simulated=simulated, after=after, limit=_PAGE):
        yield from page
        after = page[-1].feedback.id


def rows_of_feedback(
    answers: Sequence[RatedAnswer], prompt: Prompt, has_personal: HasPersonal, spec: FeedbackSpec
) -> Gathered:
    """Rows and pairs of rated answers; of two corrections of the same prompt the newer one holds."""
    made = Gathered([], [])
    newest = {answer.asked: answer.trace for answer in answers if answer.correction}
    for answer in answers:
        if answer.correction:
            reply, refused = _reply(answer, newest[answer.asked], prompt, has_personal, spec)
            if refused:
                made.refused.append(refused)
            else:
                made.rows.extend(_corrected(answer, reply, prompt, spec))
    if spec.pairs:
        _add_liked(made, answers, prompt, has_personal, spec)
    return made


def _corrected(answer: RatedAnswer, reply: str, prompt: Prompt, spec: FeedbackSpec) -> list[GatheredRow]:
    """The corrected reply as a row, and with what was said before as a pair."""
    messages = (
        *render(prompt, answer.passages, answer.question, answer.trace),
        Message(role="assistant", content=reply),
    )
    row = TrainingRow(messages=messages, source=answer.source, refusal=is_refusal(reply, prompt.refusal))
    before = spoken(answer, prompt)
    pair = [_pair(answer, reply, before, prompt)] if spec.pairs and reply != before else []
    return [GatheredRow(row=row, documents=_documents(reply, answer.passages)), *pair]


def _reply(
    answer: RatedAnswer, newest: str, prompt: Prompt, has_personal: HasPersonal, spec: FeedbackSpec
) -> tuple[str, Refused | None]:
    """The correction as the model should say it, and why it is not learnt, if so. `newest` has the last correction."""
    if newest != answer.trace:
        return "", _refused(answer, "repeats", f"feedback:{newest} corrects the same answer later")
    if _is_personal(answer.correction, has_personal):
        return "", _refused(answer, "personal data", "the correction holds personal data")
    if is_refusal(answer.correction, prompt.refusal) and MARK.sub("", answer.correction).strip():
        return prompt.refusal, None
    reply = marked(answer.correction, answer.cited, answer.passages, spec.support.verbatim)
    found = flaw(reply, answer.passages, prompt, spec.support)
    return reply, _refused(answer, "unsupported", f"the correction {found}") if found else None


def _refused(answer: RatedAnswer, kind: Kind, reason: str) -> Refused:
    return Refused(source=answer.source, kind=kind, reason=reason)


def _is_personal(text: str, has_personal: HasPersonal) -> bool:
    return _REDACTED.search(text) is not None or has_personal(text)


def marked(text: str, likely: Sequence[int], passages: Sequence[Citation], verbatim: bool = True) -> str:
    """An answer with the numbers of its passages: each part without one gets the passage that holds its words.

    Those of `likely` are looked at first. A part that no passage holds word for word stays as it is, or gets the
    passage with most of its words where it need not be `verbatim`.
    """
    order = sorted(passages, key=lambda passage: passage.number not in likely)
    parts = []
    for words, numbers in answer_parts(text):
        bare = words.rstrip(".")
        holders = list(numbers) or [passage.number for passage in order if contains(passage.text, bare)][:1]
        if not holders and not verbatim and order:
            holders = [max(order, key=lambda passage: grounded_share(f"{bare} [1]", [passage])).number]
        parts.append(f"{bare} {''.join(f'[{number}]' for number in holders)}".strip())
    return "; ".join(parts)


def spoken(answer: RatedAnswer, prompt: Prompt) -> str:
    """An answer of production as the model says it, the numbers of its passages in their places."""
    if answer.refused:
        return prompt.refusal
    said = marked(answer.answer, answer.cited, [one for one in answer.passages if one.number in answer.cited])
    return said if MARK.search(said) else f"{said} {''.join(f'[{number}]' for number in answer.cited)}".strip()


def _documents(reply: str, passages: Sequence[Citation]) -> tuple[str, ...]:
    """Documents of the passages that a reply cites."""
    cited = {number for _, numbers in answer_parts(reply) for number in numbers}
    return tuple(sorted({passage.document for passage in passages if passage.number in cited}))


def _pair(answer: RatedAnswer, chosen: str, rejected: str, prompt: Prompt) -> GatheredRow:
    messages = tuple(render(prompt, answer.passages, answer.question, answer.trace))
    pair = PreferenceRow(prompt=messages, chosen=chosen, rejected=rejected, source=answer.source)
    return GatheredRow(row=pair, documents=_documents(chosen, answer.passages))


def _add_liked(
    made: Gathered, answers: Iterable[RatedAnswer], prompt: Prompt, has_personal: HasPersonal, spec: FeedbackSpec
) -> None:
    """Pairs of an answer that was liked and one that was not, to the same question over the same passages."""
    groups: dict[tuple[str, ...], list[RatedAnswer]] = {}
    for answer in answers:
        groups.setdefault(answer.asked, []).append(answer)
    for group in groups.values():
        liked = {spoken(answer, prompt): answer for answer in group if answer.rating > 0}
        disliked = {spoken(answer, prompt) for answer in group if answer.rating < 0} - set(liked)
        for chosen, answer in liked.items() if disliked else ():
            if _is_personal(chosen, has_personal):
                made.refused.append(_refused(answer, "personal data", "the answer that was liked holds personal data"))
            elif found := flaw(chosen, answer.passages, prompt, spec.support):
                made.refused.append(_refused(answer, "unsupported", f"the answer that was liked {found}"))
            else:
                made.rows.extend(_pair(answer, chosen, rejected, prompt) for rejected in sorted(disliked))
