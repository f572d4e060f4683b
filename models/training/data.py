"""Training rows: chats over numbered passages with the answers to learn, from the train cases and from the corpus."""

import random
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from pydantic import Field

from indexes.types import Chunk, Passage
from infra.settings import Spec
from models.prompts import Prompt, render
from models.training.evidence import ENOUGH, contains, is_rival, support
from models.training.questions import Made, QuestionMaker
from models.training.rows import TrainingRow, mark_key
from models.training.tables import cells_of
from models.types import Case, Message

Search = Callable[[str], list[Passage]]
"""Question → ranked passages, exactly as production retrieves them."""

Allowed = Callable[[str], bool]
"""Whether questions may be made out of a document (the train split), by its id."""

Answer = Sequence[tuple[str, Chunk]] | None
"""Parts of an answer, each with the chunk that holds it; None is the refusal."""

Rng = random.Random


class RowSpec(Spec):
    """How rows are made by rule. What a row shows is chosen as production does it (section `answering`)."""

    orders: int = Field(2, ge=1, le=10)
    """Rows made of one question: the first with the passages as production orders them, the others shuffled."""
    case_orders: int | None = Field(None, ge=1, le=20)
    """The same for a train case, where cases are to weigh more than questions made by rule; None takes `orders`.
    A case to be refused gives one row: there is no passage to be found in any order."""
    turns: int = Field(3, ge=1, le=10)
    """Most questions asked over the same passages in one row: the passages are paid for once."""
    refusal_share: float = Field(0.15, ge=0, lt=1)
    """Share of questions that are also asked over passages without the answer, to be refused."""
    support_share: float = Field(0.05, ge=0, lt=1)
    """Share of questions made out of the corpus that become a claim to judge with yes or no."""
    evidence_sentences: int | None = Field(None, ge=0, le=200)
    """Sentences that a row shows, where it is not production's number: more of them make harder rows."""
    corpus_questions: int = Field(600, ge=0)
    """Most questions made out of the corpus by rule that get rows of their own."""
    seed: int = Field(0, ge=0)
    """Seed of every choice."""


class Turn(NamedTuple):
    """A question (or a claim to judge) with the reply to learn; the reply None is the refusal."""

    text: str
    reply: str | None
    claim: bool = False


def _no_document(_document: str) -> bool:
    return False


class RowMaker:
    """Makes rows with the prompt of production from one index."""

    def __init__(self, spec: RowSpec, prompt: Prompt, search: Search, chunks: Sequence[Chunk]) -> None:
        """`search` returns what production would show for a question, best first: chunks may come back shortened."""
        self.spec = spec
        self.prompt = prompt
        self.search = search
        self.chunks = chunks
        maker = QuestionMaker(chunks)
        self._all_made = {chunk.id: maker.questions(chunk) for chunk in chunks}
        self.made: dict[str, list[Made]] = {}

    def of_cases(self, cases: Sequence[Case], allowed: Allowed = _no_document) -> list[TrainingRow]:
        """Rows of the train cases. A case whose source production would not show gives none.

        Their passages also carry questions made out of the corpus, of the documents that `allowed` admits.
        """
        self._admit(allowed)
        return [row for case in cases for row in self._of_case(case)]

    def of_corpus(self, allowed: Allowed, share: float = 1.0) -> list[TrainingRow]:
        """Rows of questions made by rule from the documents that `allowed` admits; of `share` of the most questions."""
        pairs = self.questions(allowed)[: round(share * self.spec.corpus_questions)]
        return [row for chunk, item in pairs for row in self._of_made(chunk, item)]

    def questions(self, allowed: Allowed) -> list[tuple[Chunk, Made]]:
        """Every question made by rule from the documents that `allowed` admits, shuffled by the seed."""
        self._admit(allowed)
        pairs = [(chunk, item) for chunk in self.chunks for item in self.made.get(chunk.id, [])]
        random.Random(self.spec.seed).shuffle(pairs)  # noqa: S311 - shuffling, nothing secret
        return pairs

    def found(self, question: str) -> list[Chunk]:
        """The passages that production shows for a question."""
        return [passage.chunk for passage in self.search(question)]

    def _admit(self, allowed: Allowed) -> None:
        """Keep the questions of the documents that may be learnt from."""
        self.made = {
            chunk.id: self._all_made[chunk.id]
            for chunk in self.chunks
            if self._all_made[chunk.id] and allowed(chunk.document)
        }

    def _of_case(self, case: Case) -> list[TrainingRow]:
        rng = random.Random(f"{self.spec.seed}:{case.id}")  # noqa: S311
        source, found = f"case:{case.id}", self.found(case.question)
        if case.expected == "refusal":
            return self._rows(found, case.question, None, source, rng, 1)
        pairs = case_answer(case, found)
        if not pairs:
            return []
        parts = [part for part, _ in pairs]
        rows = self._rows(found, case.question, pairs, source, rng, self.spec.case_orders or self.spec.orders)
        if rng.random() < self.spec.refusal_share:
            lacking = [chunk for chunk in found if not any(contains(chunk.text, part) for part in parts)]
            rows.append(self._refused(lacking, len(found), case.question, parts, source, rng))
        return rows

    def _of_made(self, chunk: Chunk, made: Made) -> list[TrainingRow]:
        # Not by the chunk's id, which another version of the chunker changes where the text stays.
        rng = random.Random(f"{self.spec.seed}:{chunk.document}:{chunk.start}:{made.question}")  # noqa: S311
        source, found = f"corpus:{chunk.id}", self.found(made.question)
        if rng.random() < self.spec.refusal_share:
            others = _without_rivals(chunk, made, found)
            return [self._refused(others, len(found), made.question, [made.answer], source, rng)]
        shown, held = made_answer(chunk, made, found)
        if held is None:
            return []
        return self._rows(shown, made.question, [(made.answer, held)], source, rng, self.spec.orders)

    def _rows(
        self, found: Sequence[Chunk], question: str, answer: Answer, source: str, rng: Rng, orders: int
    ) -> list[TrainingRow]:
        """One row for each order of the passages, each with further questions on them."""
        rows = []
        for number in range(orders):
            shown = list(found) if number == 0 else rng.sample(list(found), len(found))
            reply = None if answer is None else "; ".join(cite(part, shown, chunk) for part, chunk in answer)
            rows.append(self._row(shown, [Turn(question, reply), *self._more(shown, question, rng)], source))
        return rows

    def _refused(
        self, lacking: Sequence[Chunk], wanted: int, question: str, parts: Sequence[str], source: str, rng: Rng
    ) -> TrainingRow:
        """The question over passages without its answer.

        Passages of another question take the place of those taken out: their number must not give the refusal away.
        """
        shown = list(lacking)
        names = list(self.made)
        other = rng.choice(self.made[rng.choice(names)]).question if names else question
        for chunk in _without(self.found(other), shown):
            if len(shown) < wanted and not any(contains(chunk.text, part) for part in parts):
                shown.append(chunk)
        rng.shuffle(shown)
        return self._row(shown, [Turn(question, None), *self._more(shown, question, rng)], source)

    def _more(self, shown: Sequence[Chunk], question: str, rng: Rng) -> list[Turn]:
        """Further questions: on what is shown, and to be refused on what the same chunks say but is not shown."""
        turns: list[Turn] = []
        asked = {question}
        pool = [(chunk, item) for chunk in shown for item in self.made.get(chunk.id, [])]
        rng.shuffle(pool)
        for chunk, item in pool:
            if len(turns) == self.spec.turns - 1:
                break
            rivals = any(is_rival(other, item.evidence) for other in _without(shown, [chunk]))
            if rivals or item.question in asked:
                continue
            asked.add(item.question)
            if _states(chunk, item):
                turns.append(self._turn(item, shown, chunk, rng))
            elif rng.random() < self.spec.refusal_share and not is_rival(chunk, item.evidence):
                turns.append(Turn(item.question, None))
        return turns

    def _turn(self, made: Made, shown: Sequence[Chunk], chunk: Chunk, rng: Rng) -> Turn:
        if rng.random() < self.spec.support_share and not cells_of(made.evidence):
            wrong = _changed(made, rng)
            if wrong and rng.random() < 0.5:
                return Turn(wrong, "no", claim=True)
            return Turn(made.evidence, "yes", claim=True)
        return Turn(made.question, cite(made.answer, shown, chunk))

    def _row(self, shown: Sequence[Chunk], turns: Sequence[Turn], source: str) -> TrainingRow:
        """A chat: the passages stand in its first user message only."""
        messages = render(self.prompt, shown, turns[0].text, mark_key(turns[0].text, shown))
        for place, turn in enumerate(turns):
            if place:
                template = self.prompt.support if turn.claim else self.prompt.user
                asked = template.format(passages="", claim=turn.text, question=turn.text).strip()
                messages.append(Message(role="user", content=asked))
            messages.append(Message(role="assistant", content=turn.reply or self.prompt.refusal))
        return TrainingRow(messages=tuple(messages), source=source, refusal=any(turn.reply is None for turn in turns))


def case_answer(case: Case, found: Sequence[Chunk]) -> list[tuple[str, Chunk]]:
    """Each part of a case's answer with the passage that holds it; nothing where one of them is not shown."""
    parts = case.answer.split("; ")
    holders = [max(found, key=lambda chunk: support(chunk, part, case), default=None) for part in parts]
    pairs = [
        (part, chunk)
        for part, chunk in zip(parts, holders, strict=True)
        if chunk and support(chunk, part, case) >= ENOUGH
    ]
    return pairs if len(pairs) == len(parts) else []


def made_answer(chunk: Chunk, made: Made, found: Sequence[Chunk]) -> tuple[list[Chunk], Chunk | None]:
    """(passages to show for a question made from `chunk`, the one among them that answers it or None).

    Passages that say the same with other numbers are left out.
    """
    others = _without_rivals(chunk, made, found)
    held = next((other for other in found if other.id == chunk.id and _states(other, made)), None)
    return [other for other in found if other is held or other in others], held


def _without_rivals(chunk: Chunk, made: Made, found: Sequence[Chunk]) -> list[Chunk]:
    return [other for other in found if other.id != chunk.id and not is_rival(other, made.evidence)]


def _states(chunk: Chunk, made: Made) -> bool:
    """Whether a chunk, perhaps shortened, still holds the sentence that a question was made from."""
    return " ".join(made.evidence.split()) in " ".join(chunk.text.split())


def _without(chunks: Iterable[Chunk], taken: Iterable[Chunk]) -> list[Chunk]:
    """The chunks whose ids are not taken. Found chunks may be scanned copies: only the id is the same."""
    ids = {chunk.id for chunk in taken}
    return [chunk for chunk in chunks if chunk.id not in ids]


def cite(answer: str, shown: Collection[Chunk], chunk: Chunk) -> str:
    """The answer with the number of the passage that holds it."""
    number = next(number for number, other in enumerate(shown, 1) if other.id == chunk.id)
    return f"{answer} [{number}]"


def _changed(made: Made, rng: Rng) -> str | None:
    """The sentence with one digit of the answer changed: a claim that its passage does not support."""
    places = [match.start() for match in re.finditer(r"\d", made.answer)]
    if not places or made.evidence.count(made.answer) != 1:
        return None
    place = rng.choice(places)
    digit = str((int(made.answer[place]) + rng.randint(1, 8)) % 9 + 1)
    if digit == made.answer[place]:
        return None
    wrong = made.answer[:place] + digit + made.answer[place + 1 :]
    return made.evidence.replace(made.answer, wrong)
