"""How a model's text becomes an answer as it comes: as it stands, or sentence by sentence against its passages."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, Protocol

from models.answering.guards.grounding import Cutter, Sentence, relevant_share, shared_words
from models.answering.guards.policy import GuardPolicy
from models.prompts import MARK, Source, is_refusal, may_become_refusal
from models.types import GuardEvent


def output_event(guard: str, block: bool, detail: str) -> GuardEvent:
    """What an output guard found: it stops the answer, or only notes it."""
    action: Literal["block", "flag"] = "block" if block else "flag"
    return GuardEvent(stage="output", guard=guard, action=action, detail=detail)


class Reading(Protocol):
    """Turns a model's text into the answer's. `events` is what its own checks found, `refused` whether it refuses."""

    events: list[GuardEvent]
    refused: bool

    def push(self, text: str) -> str:
        """The answer's text that its checks let go with this text of the model."""
        ...

    def end(self) -> str:
        """What was still waiting."""
        ...

    def read(self, answer: int) -> int:
        """How much of the model's text has left when this much of the answer's has."""
        ...

    def cited(self, answer: int | None = None) -> tuple[int, ...]:
        """Passages cited by this much of the answer's text (None: by all of it), in order of appearance."""
        ...


class PlainReading(Reading):
    """A model's text as it stands: nothing is cited."""

    def __init__(self) -> None:
        self.events = []
        self.refused = False

    def push(self, text: str) -> str:
        """See Reading."""
        return text

    def end(self) -> str:
        """See Reading."""
        return ""

    def read(self, answer: int) -> int:
        """See Reading."""
        return answer

    def cited(self, answer: int | None = None) -> tuple[int, ...]:
        """See Reading."""
        return ()


class GroundedReading(Reading):
    """Sentences with their marks: one goes on when its marks exist and its words are in the passages they name.

    The first text waits until it is sure that the model does not refuse, that it cites anything, and that the answer
    is about the question, where the policy asks for these.
    """

    def __init__(self, policy: GuardPolicy, passages: Sequence[Source], question: str, refusal: str) -> None:
        self.events = []
        self.refused = False
        self._policy = policy
        self._passages = passages
        self._question = question
        self._refusal = refusal
        self._raw = ""
        self._read = 0
        self._cutter = Cutter()
        self._decided = False
        """Whether the model answers is known."""
        self._sentences = 0
        self._bare = 0
        """First sentence that goes by no passage, counted from 1."""
        self._answer = ""
        self._gap = ""
        """White space that goes out before the next word of the part."""
        self._begun = False
        """Whether the part has text."""
        self._waiting = ""
        self._cited: list[tuple[int, int]] = []
        """(where the sentence begins in the answer, passage) for every passage cited."""
        self._marks: list[tuple[int, int]] = [(0, 0)]
        """(end in the answer, end in the model's text) of every sentence."""
        self._missing = False

    def push(self, text: str) -> str:
        """See Reading."""
        self._raw += text
        if not self._decided:
            if may_become_refusal(self._raw, self._refusal):
                return ""
            self._decided = True
            self.refused = is_refusal(self._raw, self._refusal)
            text = self._raw
        if self.refused:
            return ""
        for sentence in self._cutter.push(text):
            self._take(sentence)
        return self._let_go(ended=False)

    def end(self) -> str:
        """See Reading."""
        if not self._decided:
            self.refused = is_refusal(self._raw, self._refusal)
        if self.refused:
            return ""
        undecided = "" if self._decided else self._raw
        for sentence in (*self._cutter.push(undecided), *self._cutter.end()):
            self._take(sentence)
        policy = self._policy
        if not self._missing and not self._cited:
            self.events.append(output_event("citation", policy.uncited == "refuse", "none given"))
        share = self._relevance()
        if policy.output.relevance != "off" and share < policy.output.relevance_min_share:
            detail = f"{share:.2f} of the question's words"
            self.events.append(output_event("relevance", policy.output.relevance == "refuse", detail))
        return self._let_go(ended=True)

    def read(self, answer: int) -> int:
        """See Reading."""
        return self._marks[bisect_right(self._marks, (answer, len(self._raw))) - 1][1]

    def cited(self, answer: int | None = None) -> tuple[int, ...]:
        """See Reading."""
        return tuple(dict.fromkeys(number for begin, number in self._cited if answer is None or begin < answer))

    def _take(self, sentence: Sentence) -> None:
        self._sentences += 1
        self._read += len(sentence.text) + sentence.ends_part
        begin = len(self._answer)
        self._write(sentence)
        known = [number for number in sentence.own if 1 <= number <= len(self._passages)]
        self._cited += [(begin, number) for number in known]
        self._marks.append((len(self._answer), self._read))
        if len(known) < len(sentence.own):
            self._note_missing(sentence)
        else:
            self._ground(sentence)

    def _write(self, sentence: Sentence) -> None:
        """Append the sentence as `parse_answer` would read it: no marks, parts trimmed and joined."""
        text = self._gap + MARK.sub("", sentence.text)
        words = text.rstrip()
        self._gap = "" if sentence.ends_part else text[len(words) :]
        if not self._begun:
            words = words.lstrip()
            if words and self._answer:
                words = f"; {words}"
        self._begun = not sentence.ends_part and (self._begun or bool(words))
        self._answer += words
        self._waiting += words

    def _note_missing(self, sentence: Sentence) -> None:
        """A mark without a passage is noted once: the first."""
        if not self._missing:
            self._missing = True
            number = next(number for number in sentence.own if not 1 <= number <= len(self._passages))
            self.events.append(output_event("citation", self._policy.uncited == "refuse", f"no passage {number}"))

    def _ground(self, sentence: Sentence) -> None:
        found, wanted = shared_words(sentence.text, sentence.numbers, self._passages)
        if not wanted or found / wanted >= self._policy.grounding_min_share:
            return
        if not sentence.numbers and not self._cited:
            self._bare = self._bare or self._sentences
            return
        where = f"in passage {', '.join(map(str, sentence.numbers))}" if sentence.numbers else "in a passage it cites"
        detail = f"sentence {self._sentences}: {found} of {wanted} words are {where}"
        self._note_ungrounded(detail)

    def _note_ungrounded(self, detail: str) -> None:
        """The first sentence that its passages do not support is noted: nothing leaves behind it."""
        if all(event.guard != "grounding" for event in self.events):
            self.events.append(output_event("grounding", True, detail))

    def _relevance(self) -> float:
        numbers = [number for _, number in self._cited]
        return relevant_share(self._question, self._answer, numbers, self._passages)

    def _let_go(self, *, ended: bool) -> str:
        if self._bare and self._cited:
            self._note_ungrounded(f"sentence {self._bare}: it cites no passage")
            self._bare = 0
        policy = self._policy
        if not ended:
            needs_source = policy.uncited == "refuse" or policy.grounding_min_share > 0
            if needs_source and not self._cited:
                return ""
            if policy.output.relevance == "refuse" and self._relevance() < policy.output.relevance_min_share:
                return ""
        text, self._waiting = self._waiting, ""
        return text
