"""Questions for a teacher: those made by rule out of the corpus, and those that it writes itself about a passage."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from indexes.types import Chunk
from models import prompts
from models.training.asking import TeacherSpec
from models.training.curation import Refused
from models.training.data import Allowed, RowMaker, made_answer
from models.training.gathered import Gathered, GatheredRow, HasPersonal
from models.training.questions import UNSAFE, Made
from models.training.rows import mark_key
from models.training.teacher import Ask, Question, teach
from models.types import Message

ASK_FOR_QUESTION = (
    "Write one question of a customer that the passage answers in a few words, which stand in it word for word. "
    "The question must be clear without the passage. Reply with the question alone."
)
_LONGEST = 200
"""Signs of a question."""


class Wanted(NamedTuple):
    """Questions to ask, and the passages that gave none."""

    questions: list[Question]
    refused: list[Refused]


def taught_rows(maker: RowMaker, allowed: Allowed, ask: Ask, has_personal: HasPersonal, spec: TeacherSpec) -> Gathered:
    """The teacher's rows on the documents that `allowed` admits, and what was refused of its questions and answers."""
    pairs = maker.questions(allowed)
    asked = made_questions(pairs[: spec.made_questions], maker)
    own = own_questions(_spread(maker, allowed, spec.own_questions), ask, maker)
    taught = teach([*asked, *own.questions], ask, maker.prompt, spec)
    documents = {f"teacher:{chunk.id}": (chunk.document,) for chunk in maker.chunks}
    made = Gathered([], [*own.refused, *taught.refused])
    for row in taught.rows:
        if has_personal(row.messages[-1].content):
            reason = "the teacher's reply holds personal data"
            made.refused.append(Refused(source=row.source, kind="personal data", reason=reason))
        else:
            made.rows.append(GatheredRow(row=row, documents=documents[row.source]))
    return made


def _spread(maker: RowMaker, allowed: Allowed, most: int) -> list[Chunk]:
    """At most so many chunks that may be learnt from, in an order that the seed decides."""
    chunks = [chunk for chunk in maker.chunks if allowed(chunk.document)]
    random.Random(maker.spec.seed).shuffle(chunks)  # noqa: S311 - shuffling, nothing secret
    return chunks[:most]


def made_questions(pairs: Sequence[tuple[Chunk, Made]], maker: RowMaker) -> list[Question]:
    """Questions made by rule, over the passages that production shows; one whose sentence is not shown is left out."""
    found = []
    different = {(chunk.id, made.question): (chunk, made) for chunk, made in pairs}  # two rules may ask the same
    for chunk, made in different.values():
        shown, held = made_answer(chunk, made, maker.found(made.question))
        if held is not None:
            messages = tuple(prompts.render(maker.prompt, shown, made.question, mark_key(made.question, shown)))
            found.append(Question(f"teacher:{chunk.id}", messages, shown, "answer", made.answer))
    return found


def own_questions(chunks: Sequence[Chunk], ask: Ask, maker: RowMaker) -> Wanted:
    """A question on each chunk, written by the teacher, over the passages that production shows for it."""
    safe = [chunk for chunk in chunks if not UNSAFE.search(chunk.text)]
    wanted = Wanted([], [])
    for chunk, reply in zip(safe, ask([_request(chunk) for chunk in safe]), strict=True):
        text = " ".join(reply.text.split()).strip("\"'“”")
        shown = maker.found(text) if text.endswith("?") else []
        home = next((number for number, other in enumerate(shown, 1) if other.id == chunk.id), 0)
        reason = f"is missing: {reply.error}" if reply.error else _flaw(text, home)
        source = f"teacher:{chunk.id}"
        if reason:
            wanted.refused.append(Refused(source=source, kind="unusable", reason=f"the teacher's question {reason}"))
        else:
            messages = tuple(prompts.render(maker.prompt, shown, text, mark_key(text, shown)))
            wanted.questions.append(Question(source, messages, shown, "answer", home=home))
    return wanted


def _request(chunk: Chunk) -> list[Message]:
    """The messages that ask for a question on a chunk."""
    return [
        Message(role="system", content=ASK_FOR_QUESTION),
        Message(role="user", content=prompts.shown([chunk], chunk.text)),
    ]


def _flaw(text: str, home: int) -> str:
    """Why a text is no question to learn from; nothing where it is one."""
    if not text.endswith("?") or text.count("?") > 1:
        return "is not one question"
    if not 15 <= len(text) <= _LONGEST:
        return f"has {len(text)} characters"
    return "" if home else "does not find the passage that it was made from"
