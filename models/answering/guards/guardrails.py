"""Guards of one request: what may come in, what the model may see of a passage, what may go out."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from indexes.types import Chunk
from infra.errors import InputError
from models.answering.guards.classifier import Classifier, open_classifier
from models.answering.guards.decoding import views
from models.answering.guards.injections import clean, injection, without_injections, without_sentences
from models.answering.guards.outputs import OutputGuards
from models.answering.guards.personal import PersonalData
from models.answering.guards.policy import ACTIONS, GuardPolicy, Verdict
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

    def __init__(self, policy: GuardPolicy, count_tokens: Callable[[str], int] | None = None) -> None:
        """`count_tokens` counts as the model does, where the policy bounds a question's tokens."""
        self.policy = policy
        self.count_tokens = count_tokens
        self._topics = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in policy.denied_topics.items()}
        self._harmless = lru_cache(maxsize=8192)(self._without_attacks)  # popular chunks come again and again
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
        most, count = self.policy.max_question_tokens, self.count_tokens
        if most and count and count(question) > most:
            raise InputError(f"question: {count(question)} tokens; at most {most} are read")
        events = []
        if question != text.strip():
            events.append(GuardEvent(stage="input", guard="characters", action="redact"))
        events += [*self._attacks(text), *self._topic_events(question)]
        if kinds := self._kinds(question):
            action = ACTIONS[self.policy.question_personal]
            events.append(GuardEvent(stage="input", guard="personal-data", action=action, detail=kinds))
            question = self.redact(question) if action == "redact" else question
        return question, all(event.action != "block" for event in events), events

    def _attacks(self, text: str) -> list[GuardEvent]:
        """What rules and classifier say of a question and of what decoding makes of it."""
        by_rule, by_classifier = self.policy.question_injection, self.policy.question_classifier
        if by_rule == by_classifier == "off":
            return []
        found, events = [(name, clean(view)) for name, view in views(text)], []
        if by_rule != "off":
            hit = next((name or "plain" for name, view in found if injection(view)), "")
            if hit:
                detail = "" if hit == "plain" else f"hidden: {hit}"
                events.append(GuardEvent(stage="input", guard="injection", action=ACTIONS[by_rule], detail=detail))
        if by_classifier != "off":
            highest = max(self._classifier().probability(view) for _, view in found)
            if highest >= self._classifier().threshold:
                action, detail = ACTIONS[by_classifier], f"{highest:.2f}"
                events.append(GuardEvent(stage="input", guard="classifier", action=action, detail=detail))
        return events

    def _topic_events(self, question: str) -> list[GuardEvent]:
        named = [name for name, pattern in self._topics.items() if pattern.search(question)]
        return [GuardEvent(stage="input", guard="topic", action="block", detail=", ".join(named))] if named else []

    def _classifier(self) -> Classifier:
        return open_classifier(self.policy.classifier, self.policy.classifier_threshold)

    def _is_attack(self, sentence: str) -> bool:
        return self._classifier().probability(clean(sentence)) >= self._classifier().threshold

    def _without_attacks(self, text: str) -> tuple[str, int]:
        """The text without the sentences that the classifier takes for attacks, and how many they were."""
        return without_sentences(text, self._is_attack)

    def passages(self, chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[GuardEvent]]:
        """Chunks as the model may see them: sentences that give orders are hidden, empty chunks vanish.

        Titles are looked at like texts. What is let through stands above the mark all the same (models/marks.py).
        """
        events: list[GuardEvent] = []
        shown = list(chunks)
        if self.policy.passage_injection != "off":
            shown = self._scan(shown, "injection", self.policy.passage_injection, without_injections, events)
        if self.policy.passage_classifier != "off":
            shown = self._scan(shown, "classifier", self.policy.passage_classifier, self._harmless, events)
        return shown, events

    @staticmethod
    def _scan(
        chunks: Sequence[Chunk],
        guard: str,
        does: Literal["flag", "drop"],
        without: Callable[[str], tuple[str, int]],
        events: list[GuardEvent],
    ) -> list[Chunk]:
        shown = []
        for chunk in chunks:
            (text, dropped), (title, in_title) = without(chunk.text), without(chunk.title)
            if not dropped + in_title:
                shown.append(chunk)
                continue
            detail = f"{chunk.document} {chunk.id}: {dropped + in_title} sentence(s)"
            events.append(GuardEvent(stage="passage", guard=guard, action=does, detail=detail))
            if does == "flag":
                shown.append(chunk)
            elif text:
                shown.append(chunk.model_copy(update={"text": text, "title": title}))
        return shown

    def answer(self, text: str, passages: Sequence[Source], refusal: str, question: str = "") -> Verdict:
        """What goes out for the model's whole `text`: the answer and its citations, or the refusal with the reason."""
        guard = self.output.grounded(passages, question, refusal, whole=True)
        guard.push(text)
        return guard.end()
