"""Rows of a teacher: it answers questions over passages, and an answer is learnt only if its passages support it.

`teach` is the whole of it and knows no network: what asks the teacher is a function. Used for training data (rows of
source `teacher:<chunk id>`) and for sequence-level distillation (the prompts of a dataset, see `prompts_of`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from infra.settings import Spec
from models.prompts import Prompt, Source, is_refusal, parse_answer, passages_in
from models.training.curation import Refused
from models.training.evidence import contains
from models.training.rows import TrainingRow
from models.training.support import SupportSpec, flaw
from models.types import Message

INSTRUCTIONS = (
    "Answer in the fewest words, word for word as they stand in a passage, each answer followed by the number of its "
    "passage in brackets, such as: 14 days [2]. Put `; ` between several answers. "
    "If no passage answers the question, say exactly: {refusal}"
)
_VARYING = re.compile(r"\[[\d, ]*\]|\d+(?:\.\d+)?")


class TeachSpec(Spec):
    """How a teacher is asked and which of its answers are learnt."""

    instructions: str = INSTRUCTIONS
    """Stands behind the prompt's own system message for a model that does not know the form of the answers;
    `{refusal}` is the prompt's refusal. Empty for a teacher that was trained on this prompt. It is not learnt."""
    support: SupportSpec = SupportSpec()
    """What an answer has to show."""


class Question(NamedTuple):
    """What a teacher is asked: the messages that are learnt as well, and what is known about the reply."""

    source: str
    messages: tuple[Message, ...]
    """Ends with a user message; answers of earlier turns may stand in it."""
    passages: Sequence[Source]
    """Those of the prompt, numbered from 1."""
    expected: Literal["answer", "refusal", "either"] = "either"
    answer: str = ""
    """A part of every right answer, where it is known."""
    home: int = 0
    """Number of the passage that the question was made from, which the answer has to cite; 0 where any will do."""


class Reply(NamedTuple):
    """What a teacher said. `error` says why it said nothing; `cut` that it would have gone on."""

    text: str
    cut: bool = False
    error: str = ""


Ask = Callable[[Sequence[Sequence[Message]]], Sequence[Reply]]
"""Prompts → replies, in their order and as many."""


class Taught(NamedTuple):
    """The rows to learn, and what was refused with the reason. `kept[n]` says whether question n gave a row."""

    rows: list[TrainingRow]
    refused: list[Refused]
    kept: list[bool]


def teach(questions: Sequence[Question], ask: Ask, prompt: Prompt, spec: TeachSpec) -> Taught:
    """Ask the teacher every question and keep the answers that hold.

    A row has the messages of its question, without the instructions for the teacher, and the teacher's reply.
    """
    replies = ask([instructed(question.messages, prompt, spec) for question in questions])
    rows, refused, kept = [], [], []
    for question, reply in zip(questions, replies, strict=True):
        found = fault(question, reply, prompt, spec.support)
        kept.append(not found)
        if found:
            kind: Literal["unusable", "unsupported"] = "unusable" if reply.cut or reply.error else "unsupported"
            refused.append(Refused(source=question.source, kind=kind, reason=f"the teacher's reply {found}"))
        else:
            rows.append(_row(question, reply.text.strip(), prompt))
    return Taught(rows, refused, kept)


def instructed(messages: Sequence[Message], prompt: Prompt, spec: TeachSpec) -> list[Message]:
    """The messages as the teacher reads them."""
    more = spec.instructions.replace("{refusal}", prompt.refusal)
    if not more:
        return list(messages)
    first, *rest = messages
    if first.role != "system":
        return [Message(role="system", content=more), *messages]
    return [Message(role="system", content=f"{first.content}\n{more}"), *rest]


def fault(question: Question, reply: Reply, prompt: Prompt, spec: SupportSpec) -> str:
    """Why a reply is not learnt; nothing where it is."""
    if reply.error:
        return f"is missing: {reply.error}"
    if reply.cut:
        return "breaks off at the most tokens"
    if found := flaw(reply.text, question.passages, prompt, spec):
        return found
    answer, cited, refused = parse_answer(reply.text, len(question.passages), prompt.refusal)
    if refused:
        return "refuses although a passage answers" if question.expected == "answer" else ""
    if question.expected == "refusal":
        return "answers although no passage does"
    if question.answer and not contains(answer, question.answer):
        return f"lacks the known answer: {question.answer}"
    if question.home and question.home not in cited:
        return f"cites {list(cited)}, not passage {question.home} from which its question was made"
    return ""


def _row(question: Question, reply: str, prompt: Prompt) -> TrainingRow:
    messages = (*question.messages, Message(role="assistant", content=reply))
    return TrainingRow(messages=messages, source=question.source, refusal=is_refusal(reply, prompt.refusal))


def prompts_of(rows: Iterable[TrainingRow], prompt: Prompt) -> list[Question]:
    """The first question of each row as the teacher is asked it, whatever the row's own reply; texts have none."""
    found = []
    for row in rows:
        if row.is_text:
            continue
        end = next(place for place, message in enumerate(row.messages) if message.role == "assistant")
        messages = row.messages[:end]
        expected: Literal["answer", "refusal"] = (
            "refusal" if is_refusal(row.messages[end].content, prompt.refusal) else "answer"
        )
        found.append(Question(row.source, messages, passages_in(messages[-1].content), expected))
    return found


def counted(refused: Iterable[Refused]) -> dict[str, int]:
    """Reason → how many were refused for it, most first; figures as `…`, what stands behind a colon left out."""
    return dict(Counter(_VARYING.sub("…", item.reason.partition(":")[0]) for item in refused).most_common())
