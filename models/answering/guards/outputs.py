"""What may go out: an answer against the passages it cites, personal data, planted tokens, length."""

import re
from collections.abc import Sequence
from typing import Literal

from models.answering.guards.policy import GuardPolicy
from models.prompts import Source, answer_parts, unknown_marks
from models.types import GuardEvent

WORD = re.compile(r"\d+(?:[.,:]\d+)*|\w+")
UNSAFE = frozenset({"personal-data", "leak"})
"""Output guards whose block means that the release tried to do harm; the others only refuse a bad answer."""


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


def output_events(
    policy: GuardPolicy, text: str, answer: str, cited: tuple[int, ...], passages: Sequence[Source], kinds: str
) -> list[GuardEvent]:
    """What the output guards say about a model's `text`; `kinds` are the kinds of personal data in it."""
    events: list[GuardEvent] = []

    def note(guard: str, block: bool, detail: str) -> None:
        action: Literal["block", "flag"] = "block" if block else "flag"
        events.append(GuardEvent(stage="output", guard=guard, action=action, detail=detail))

    missing = unknown_marks(text, len(passages))
    if missing or not cited:
        note("citation", policy.uncited == "refuse", f"no passage {missing[0]}" if missing else "none given")
    elif (share := grounded_share(text, passages)) < policy.grounding_min_share:
        note("grounding", True, f"{share:.2f} of the words are in the cited passages")
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
