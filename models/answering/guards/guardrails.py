"""Guards of one request: what may come in, what the model may see of a passage, what may go out."""

from collections.abc import Sequence
from typing import Literal

from indexes.types import Chunk
from infra.errors import InputError
from models.answering.guards.injections import clean, injection, without_injections
from models.answering.guards.outputs import OutputGuards
from models.answering.guards.personal import PersonalData
from models.answering.guards.policy import GuardPolicy, Verdict
from models.prompts import Source
from models.types import GuardEvent


def personal_data(policy: GuardPolicy) -> PersonalData:
    """The finder of personal data that a policy describes."""
    return PersonalData(policy.phone_regions, policy.personal_patterns, policy.allowed, policy.personal_min_score)


def find_pii(text: str, policy: GuardPolicy) -> list[str]:
    """The pieces of personal data in a text, as they stand there."""
    return [text[one.start : one.end] for one in personal_data(policy).find(text)]


class Guards:
    """The guards of one release."""

    def __init__(self, policy: GuardPolicy) -> None:
        self.policy = policy
        self.personal = personal_data(policy)
        self.output = OutputGuards(policy, self.personal)

    def redact(self, text: str) -> str:
        """Text as it may be written to records and traces."""
        return self.personal.redact(text)

    def _kinds(self, text: str) -> str:
        return ", ".join(sorted({one.kind for one in self.personal.find(text)}))

    def question(self, text: str) -> tuple[str, bool, list[GuardEvent]]:
        """(question as the pipeline uses it, may it be answered, events).

        Raises: InputError when it is empty or too long.
        """
        question = clean(text)
        if not question:
            raise InputError("question: empty; ask something")
        if len(question) > self.policy.max_question_chars:
            raise InputError(f"question: {len(question)} characters; at most {self.policy.max_question_chars} are read")
        events = []
        if question != text.strip():
            events.append(GuardEvent(stage="input", guard="characters", action="redact"))
        kinds = self._kinds(question)
        if kinds:
            events.append(GuardEvent(stage="input", guard="personal-data", action="flag", detail=kinds))
        refuse = bool(injection(question)) and self.policy.question_injection == "refuse"
        if injection(question):
            events.append(GuardEvent(stage="input", guard="injection", action="block" if refuse else "flag"))
        return question, not refuse, events

    def passages(self, chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[GuardEvent]]:
        """Chunks as the model may see them: sentences that give orders are hidden, empty chunks vanish."""
        shown, events = [], []
        for chunk in chunks:
            text, dropped = without_injections(chunk.text)
            drop = self.policy.passage_injection == "drop"
            if dropped:
                action: Literal["drop", "flag"] = "drop" if drop else "flag"
                detail = f"{chunk.document} {chunk.id}: {dropped} sentence(s)"
                events.append(GuardEvent(stage="passage", guard="injection", action=action, detail=detail))
            if not dropped or not drop:
                shown.append(chunk)
            elif text:
                shown.append(chunk.model_copy(update={"text": text}))
        return shown, events

    def answer(self, text: str, passages: Sequence[Source], refusal: str, question: str = "") -> Verdict:
        """What goes out for the model's whole `text`: the answer and its citations, or the refusal with the reason."""
        guard = self.output.grounded(passages, question, refusal, whole=True)
        guard.push(text)
        return guard.end()
