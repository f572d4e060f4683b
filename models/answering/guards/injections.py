"""Text patterns of the guards: characters that hide text, and sentences that give a model orders."""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

from models.answering.guards.decoding import views, visible

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_EARLIER = r"(?:previous|prior|earlier|preceding|above|foregoing|existing|original|former|other)"
_ORDERS = r"(?:instruction|prompt|rule|direction|guideline|command|message|context|passage|source|polic)\w*"
_DROP = r"(?:ignore|disregard|forget|override|bypass|discard|skip)"

INJECTIONS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_DROP}\b[^.!?]{{0,40}}\b{_EARLIER}\b[^.!?]{{0,30}}\b{_ORDERS}",
        rf"\b{_DROP}\s+(?:all|any|every|everything|your|the|these|those)\s+(?:of\s+)?(?:your\s+|the\s+)?{_ORDERS}",
        r"\b(?:new|updated|real|secret|hidden)\s+(?:system\s+)?instructions?\s*:",
        r"\bsystem\s+prompt\b",
        r"\byou\s+are\s+(?:now|no\s+longer)\s+(?:an?\s+|the\s+)?\w*\s*(?:assistant|model|bot|ai|chatbot|developer|dan)\b",
        r"\b(?:reveal|print|repeat|show|leak|output)\b[^.!?]{0,30}\b(?:your|the|all)\b[^.!?]{0,15}\b(?:prompt|instructions)\b",
        r"\b(?:do\s+not|don't|never)\s+(?:mention|reveal|cite|disclose|quote)\s+(?:this|these|that)\b",
        r"\b(?:assistant|model|chatbot|language\s+model|ai)\b[^.!?]{0,20}\bmust\s+(?:now\s+)?(?:answer|say|reply|respond)\b",
        r"<\|[^|>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|^\s*#{2,}\s*(?:system|instruction)s?\s*:",
    )
)

SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|\n\s*\n\s*|\n(?=[^\S\n]*[^a-z\s])")
"""Ends of sentences and of lines; a line that begins with a small letter continues the one before it."""


def clean(text: str) -> str:
    """Text as a reader sees it: compatibility forms folded, hidden and control characters gone, ends trimmed."""
    return CONTROL.sub(" ", visible(text)).strip()


def injection(text: str) -> str:
    """The first piece of text that gives a model orders, or an empty string."""
    for pattern in INJECTIONS:
        found = pattern.search(text)
        if found:
            return found.group(0)
    return ""


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence or line, with the white space behind it; together they are the whole text."""
    cuts = [match.end() for match in SENTENCE.finditer(text)]
    edges = [0, *(cut for cut in cuts if cut < len(text)), len(text)]
    return [(start, end) for start, end in pairwise(edges) if start < end]


def hidden_injection(text: str) -> str:
    """How an order to a model is hidden in a text: the decoders that show it; nothing where there is none."""
    return next((name for name, view in views(text)[1:] if injection(clean(view))), "")


@lru_cache(maxsize=8192)  # popular chunks come again and again
def without_injections(text: str) -> tuple[str, int]:
    """The text without the sentences that give a model orders, in plain or encoded, and how many they were."""
    shown = clean(text)
    orders = [match.span() for pattern in INJECTIONS for match in pattern.finditer(shown)]
    hidden = hidden_injection(text)
    if hidden:
        orders += [(start, end) for start, end in sentences(shown) if hidden_injection(shown[start:end])]
    if hidden and not orders:  # told by characters that the visible text does not have: nothing of it can be trusted
        return "", len(sentences(shown))
    if not orders:
        return text, 0
    return _without(shown, orders)


def without_sentences(text: str, is_attack: Callable[[str], bool]) -> tuple[str, int]:
    """The text without the sentences that are attacks, and how many they were."""
    bad = [(start, end) for start, end in sentences(text) if is_attack(text[start:end].strip())]
    return _without(text, bad) if bad else (text, 0)


def _without(shown: str, orders: list[tuple[int, int]]) -> tuple[str, int]:
    """The text without the sentences that these places touch."""
    spans = sentences(shown)
    kept = [(start, end) for start, end in spans if all(end <= first or last <= start for first, last in orders)]
    return "".join(shown[start:end] for start, end in kept).strip(), len(spans) - len(kept)
