"""Guards of one request: what may come in, what the model may see of a passage, what may go out."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from indexes.types import Chunk
from infra.errors import InputError
from infra.settings import Spec
from models.answering.injections import clean, injection, without_injections
from models.answering.personal import PersonalData
from models.prompts import Source, answer_parts, parse_answer, unknown_marks
from models.types import GuardEvent

WORD = re.compile(r"\d+(?:[.,:]\d+)*|\w+")
UNSAFE = frozenset({"personal-data", "leak"})
"""Output guards whose block means that the release tried to do harm; the others only refuse a bad answer."""


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


Regex = Annotated[str, AfterValidator(_pattern)]


class GuardPolicy(Spec):
    """What the guards do. Part of a release: another policy is another release."""

    max_question_chars: int = Field(ge=1, le=100_000)
    """Longest question that is answered."""
    max_answer_chars: int = Field(ge=1, le=100_000)
    """Longest answer that goes out; a longer one is refused."""
    question_injection: Literal["flag", "refuse"]
    """A question that gives the model orders: answer and note it, or refuse."""
    passage_injection: Literal["flag", "drop"]
    """A sentence of a passage that gives the model orders: note it, or hide it from the model."""
    personal_data: Literal["flag", "refuse"]
    """Personal data in an answer: note it, or refuse."""
    personal_min_score: float = Field(ge=0, le=1)
    """Least confidence of a Presidio recognizer that counts."""
    phone_regions: tuple[str, ...] = ("US", "GB")
    """Countries whose phone numbers are looked for when written without a country code."""
    personal_patterns: dict[str, Regex] = Field(default_factory=dict)
    """Further kinds of personal data by name: regular expressions."""
    allowed: tuple[Regex, ...] = ()
    """Regular expressions of whole strings that are the organisation's own contacts, not personal data."""
    uncited: Literal["allow", "refuse"]
    """An answer that cites no passage, or one that does not exist: let it through, or refuse."""
    grounding_min_share: float = Field(ge=0, le=1)
    """Least share of an answer's words that must occur in the passages it cites; 0 switches the check off."""
    leak_tokens: tuple[str, ...] = ()
    """Canary tokens planted in texts that must never leave."""
    fallback: str = Field(min_length=1)
    """What the user reads when a part of the pipeline fails."""


class Verdict(Spec):
    """What the output guards let through."""

    answer: str
    cited: tuple[int, ...]
    refused: bool
    events: tuple[GuardEvent, ...] = ()


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))


def grounded_share(text: str, passages: Sequence[Source]) -> float:
    """Least share, over the parts of the answer, of its words that occur in the passages the part cites (0 to 1)."""
    shares = [1.0]
    for words, numbers in answer_parts(text):
        wanted = _words(words)
        cited = [passages[number - 1] for number in numbers if 1 <= number <= len(passages)]
        seen = set().union(*(_words(f"{passage.title} {passage.text}") for passage in cited))
        shares.append(len(wanted & seen) / len(wanted) if wanted else 1.0)
    return min(shares)


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

    def answer(self, text: str, passages: Sequence[Source], refusal: str) -> Verdict:
        """What goes out for the model's `text`: the answer and its citations, or the refusal with the reason."""
        answer, cited, refused = parse_answer(text, len(passages), refusal)
        if refused:
            return Verdict(answer=refusal, cited=(), refused=True)
        events = self._output_events(text, answer, cited, passages)
        if any(event.action == "block" for event in events):
            return Verdict(answer=refusal, cited=(), refused=True, events=tuple(events))
        return Verdict(answer=answer, cited=cited, refused=False, events=tuple(events))

    def _output_events(
        self, text: str, answer: str, cited: tuple[int, ...], passages: Sequence[Source]
    ) -> list[GuardEvent]:
        policy, events = self.policy, []

        def note(guard: str, block: bool, detail: str) -> None:
            action: Literal["block", "flag"] = "block" if block else "flag"
            events.append(GuardEvent(stage="output", guard=guard, action=action, detail=detail))

        missing = unknown_marks(text, len(passages))
        if missing or not cited:
            note("citation", policy.uncited == "refuse", f"no passage {missing[0]}" if missing else "none given")
        elif (share := grounded_share(text, passages)) < policy.grounding_min_share:
            note("grounding", True, f"{share:.2f} of the words are in the cited passages")
        kinds = self._kinds(answer)
        if kinds:
            note("personal-data", policy.personal_data == "refuse", kinds)
        if any(token in text for token in policy.leak_tokens):
            note("leak", True, "canary token")
        if len(answer) > policy.max_answer_chars:
            note("length", True, f"{len(answer)} characters")
        return events


def is_unsafe(events: Sequence[GuardEvent]) -> bool:
    """Whether an output guard had to stop harm (personal data, a leaked token)."""
    return any(event.stage == "output" and event.guard in UNSAFE for event in events)
