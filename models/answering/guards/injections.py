"""Text patterns of the guards: characters that hide text, and sentences that give a model orders."""

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Zero-width, direction, variation and tag characters: they carry text that a reader does not see."""

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
    shown = HIDDEN.sub("", unicodedata.normalize("NFKC", text))
    return CONTROL.sub(" ", shown).strip()


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


@lru_cache(maxsize=8192)  # popular chunks come again and again
def without_injections(text: str) -> tuple[str, int]:
    """The text without the sentences that give a model orders, and how many they were."""
    visible = clean(text)
    orders = [match.span() for pattern in INJECTIONS for match in pattern.finditer(visible)]
    if not orders:
        return text, 0
    spans = sentences(visible)
    kept = [(start, end) for start, end in spans if all(end <= first or last <= start for first, last in orders)]
    return "".join(visible[start:end] for start, end in kept).strip(), len(spans) - len(kept)
