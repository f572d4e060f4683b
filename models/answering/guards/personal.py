"""Personal data in text: found by Presidio's pattern recognizers, told apart from the organisation's own contacts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

PHONE_LIKE = re.compile(r"\d(?:[\s().+/-]{0,3}\d){6,}")
"""Seven digits or more in one run: what phone matching, by far the slowest recognizer, needs at least."""

ANYTHING = re.compile(r"[\d@]|::")
"""No kind of personal data that patterns can find is written without one of these."""

LONG_NUMBER = re.compile(r"\d(?:[ .-]?\d){8}")
"""Nine digits, a sign at most between two: what cards and social security numbers need at least."""

NEEDS = {
    "EMAIL_ADDRESS": re.compile("@"),
    "CREDIT_CARD": LONG_NUMBER,
    "US_SSN": LONG_NUMBER,
    "IBAN_CODE": re.compile(r"[A-Za-z]{2}\d{2}"),
    "IP_ADDRESS": re.compile(r"\d\.\d|:[\dA-Fa-f:]"),
    "PHONE_NUMBER": PHONE_LIKE,
}
"""Kind → what every find of it holds. A search for it costs a hundredth of Presidio's own."""

PRESIDIO_FLAGS = re.DOTALL | re.MULTILINE | re.IGNORECASE
"""With these Presidio compiles every pattern."""

LOCAL_PHONE = r"(?<![\w.,/+-])(?<!\d )\d{3}-\d{4}(?![\w/-]|[.,]\d|\s*(?:euros?|mm|m3|cubic|litres?|people)\b)"
"""A number without its area code (555-0134); a range with a unit behind it is none."""


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of personal data: its kind (`EMAIL_ADDRESS`, `IBAN_CODE`, …) and place in the text."""

    kind: str
    start: int
    end: int


@cache
def _recognizers(
    regions: tuple[str, ...], extra: tuple[tuple[str, str], ...]
) -> tuple[tuple[Any, re.Pattern[str]], ...]:
    """(Presidio recognizer, what its finds hold), built once a process: importing Presidio takes seconds.

    Recognizers are called directly: what Presidio's engine would add (context words) needs a language model, which
    patterns do not. The mail recognizer takes every domain as it stands, so it never asks the network for suffixes.
    """
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UsSsnRecognizer,
    )

    mail = PatternRecognizer("EMAIL_ADDRESS", patterns=EmailRecognizer.PATTERNS)
    local = PatternRecognizer("PHONE_NUMBER", patterns=[Pattern("local phone", LOCAL_PHONE, 0.5)])
    own = [PatternRecognizer(kind, patterns=[Pattern(kind, regex, 0.9)]) for kind, regex in extra]
    phones = PhoneRecognizer(supported_regions=regions)
    known = [mail, CreditCardRecognizer(), IbanRecognizer(), IpRecognizer(), UsSsnRecognizer(), phones, local]
    return (
        *((one, NEEDS[one.supported_entities[0]]) for one in known),
        *zip(own, (re.compile(regex, PRESIDIO_FLAGS) for _, regex in extra), strict=True),
    )


class PersonalData:
    """Finds and redacts personal data. `allowed` are patterns of whole strings that are not personal."""

    def __init__(self, regions: Sequence[str], extra: dict[str, str], allowed: Sequence[str], min_score: float) -> None:
        self._key = (tuple(regions), tuple(sorted(extra.items())))
        self._allowed = [re.compile(pattern, re.IGNORECASE) for pattern in allowed]
        self._min_score = min_score

    def warm(self) -> None:
        """Load the recognizers and compile their patterns, so that the first request does not wait for it."""
        self.find("warm@example.org 555-0100 +1 202 555 0100")

    def find(self, text: str) -> list[Found]:
        """Personal data in order of appearance, without overlaps (the longer one wins)."""
        if not ANYTHING.search(text):
            return []
        found: list[Found] = []
        for recognizer, needs in _recognizers(*self._key):
            if not needs.search(text):
                continue
            for hit in recognizer.analyze(text, recognizer.supported_entities):
                if hit.score >= self._min_score and not self._is_allowed(text[hit.start : hit.end]):
                    found.append(Found(hit.entity_type, hit.start, hit.end))
        return _without_overlaps(found)

    def _is_allowed(self, text: str) -> bool:
        return any(pattern.fullmatch(text) for pattern in self._allowed)

    def redact(self, text: str) -> str:
        """The text with each piece replaced by its kind in angle brackets."""
        parts, last = [], 0
        for one in self.find(text):
            parts += [text[last : one.start], f"<{one.kind}>"]
            last = one.end
        return "".join([*parts, text[last:]])


def _without_overlaps(found: list[Found]) -> list[Found]:
    kept: list[Found] = []
    for one in sorted(found, key=lambda hit: (hit.start - hit.end, hit.start, hit.kind)):
        if all(one.end <= other.start or one.start >= other.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda hit: hit.start)
