"""What keeps two similar questions apart, whatever their vectors say: numbers, negation, opposites, kind, words.

An encoder puts "increase" beside "decrease" and 2024 beside 2025, so the similarity alone cannot bound false hits.
Every veto is symmetric and strict: a hit that is missed costs an engine call, a false one is a wrong answer.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from models.serving.cache.words import AXES, LIGHT, NEGATION, NUMBERS, SAME

TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?[+#]*|\d+(?:[.,:]\d+)*|[€$£%]")
GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
NOT = re.compile(r"n['’]t$")
BEFORE = r"^(?:[^?]*[.!,:] )?(?:so |and |but )?"
"""Where a question begins: at the start, or after a clause that leads to it."""
VERB = r"(?:is|are|was|were|do|does|did|can|could|may|will|would|shall|should|must|has|have|had|am)\b"
TIMES = r"(?:date|day|time|month|year)\b"
SIZES = ("high", "large", "big")
"""Measures that fit any amount: "how high is the limit" asks what the limit is."""
KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("often", r"\b(?P<asks>how (?:often|frequently))\b"),
        ("soon", r"\b(?P<asks>how (?:soon|quickly|fast)|in what time)\b"),
        (
            "duration",
            r"\b(?P<asks>how long|how much time|how many (?:working )?(?:second|minute|hour|day|week|month|year)s)\b",
        ),
        ("count", r"\b(?P<asks>how many|what (?:is )?(?:the )?number of)\b"),
        ("much", r"\b(?P<asks>how much|what (?:amount|sum))\b"),
        (
            "measure",
            r"\b(?P<asks>how)(?= (?:deep|wide|old|far|close|near|hard|soft|high|large|big|small|heavy|thick|tall)\b)",
        ),
        ("end of time", rf"\b(?P<asks>(?:until|till|by) (?:when\b|(?:what|which) {TIMES}))"),
        ("begin of time", rf"\b(?P<asks>since (?:when\b|(?:what|which) {TIMES})|from (?:what|which) time\b)"),
        ("clock", r"\b(?P<asks>(?:what|which) (?:times?|hours?))\b"),
        ("date", r"\b(?P<asks>(?:what|which)(?: is the)?(?: \w+)? (?:date|day|year|months?|week))\b"),
        ("manner", rf"\b(?P<asks>how)(?= (?:to\b|{VERB}))"),
        ("why", r"\b(?P<asks>why|(?:for )?what reason)\b"),
        ("who", BEFORE + r"(?P<asks>(?:by |to |from )?who(?:m|se)?)\b"),
        ("where", BEFORE + r"(?P<asks>(?:to |from )?where)\b"),
        ("time", BEFORE + rf"(?P<asks>when)(?= {VERB})"),
        ("thing", r"\b(?P<asks>what|which)\b"),
        ("whether", BEFORE + rf"(?P<asks>{VERB})"),
    )
)
"""Kinds of questions and how they are known, the words that ask as group `asks`; the first that fits."""
ALIKE = frozenset(
    frozenset(pair)
    for pair in (
        ("thing", "much"), ("thing", "count"), ("thing", "measure"), ("thing", ""),
        ("much", ""), ("much", "measure"), ("measure", ""), ("count", ""),
        ("time", "date"), ("time", "clock"), ("time", "end of time"), ("date", "end of time"),
    )
)  # fmt: skip
"""Kinds that ask for the same in other words, where all words agree."""


class Read(NamedTuple):
    """A question as the vetoes see it."""

    kind: str
    numbers: tuple[str, ...]
    negated: bool
    sides: frozenset[tuple[int, int]]
    """Rows of AXES that it names, and which side of them."""
    places: frozenset[tuple[str, str]]
    """Words after "from" and after "to"."""
    units: frozenset[int]
    """Units of time, wherever they stand."""
    size: str
    """One of SIZES that the question asks for."""
    words: frozenset[str]
    """Words that carry content, by their stems."""


def _stem(word: str) -> str:
    """A word without the endings of plural and verb."""
    word = re.sub(r"['’]s?$", "", word)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 4 and word.endswith("ied"):
        word = word[:-3] + "y"
    for ending in ("ing", "ed"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            word = word[:-1] if word[-1] == word[-2] and word[-1] not in "ls" else word
            break
    for ending in ("ment", "ion"):
        word = word[: -len(ending)] if len(word) > len(ending) + 3 and word.endswith(ending) else word
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


_CANON = {_stem(word): _stem(row.split()[0]) for row in SAME for word in row.split()}
_SIDES: dict[str, set[tuple[int, int]]] = {}
for _axis, _row in enumerate(AXES):
    for _side, _ways in enumerate(_row):
        for _word in _ways.split():
            _SIDES.setdefault(_stem(_word), set()).add((_axis, _side))


UNITS = len(AXES) - 1
"""The last axis is of units of time, which a question may leave out."""
MEASURED = frozenset({"old", "far", "near", "hard", "soft"})
"""Words that are no side where the kind of the question holds them."""


@lru_cache(maxsize=20_000)
def read(question: str) -> Read:
    """What the vetoes compare of a question."""
    text = GROUPED.sub("", question.casefold())
    kind, rest = "", text
    size = ""
    for name, pattern in KINDS:
        if found := pattern.search(text):
            kind, after = name, text[found.end("asks") :]
            size = next((one for one in SIZES if kind == "measure" and after.startswith(f" {one} ")), "")
            rest = f"{text[: found.start('asks')]} {after[len(size) + 1 :] if size else after}"
            break
    tokens = TOKEN.findall(rest)
    numbers = tuple(sorted(NUMBERS.get(token, token) for token in tokens if token[0].isdigit() or token in NUMBERS))
    sides = set().union(*(_SIDES.get(_stem(token), ()) for token in TOKEN.findall(text) if token not in MEASURED))
    words: set[str] = set()
    places: set[tuple[str, str]] = set()
    before = ""
    for token in tokens:
        before = token if token in ("from", "to") else before
        if token in LIGHT or token in NUMBERS or token[0].isdigit() or _negates(token):
            continue
        words.add(_CANON.get(_stem(token), _stem(token)))
        if before:
            places.add((before, _stem(token)))
            before = ""
    return Read(
        kind=kind,
        numbers=numbers,
        negated=any(map(_negates, TOKEN.findall(text))),
        sides=frozenset(side for side in sides if side[0] != UNITS),
        places=frozenset(places),
        units=frozenset(side for axis, side in sides if axis == UNITS),
        size=size,
        words=frozenset(words),
    )


def _negates(token: str) -> bool:
    return token in NEGATION or bool(NOT.search(token))


def _turned(one: Read, other: Read) -> bool:
    """Whether a word that comes after "from" in one question comes after "to" in the other."""
    return any((("to" if place == "from" else "from"), word) in other.places for place, word in one.places)


def _same_size(one: Read, other: Read) -> bool:
    return not (one.size and other.size) or one.size == other.size


VETOES: dict[str, Callable[[Read, Read], bool]] = {
    "number": lambda one, other: one.numbers != other.numbers,
    "unit": lambda one, other: bool(one.units and other.units) and one.units != other.units,
    "negation": lambda one, other: one.negated != other.negated,
    "opposite": lambda one, other: one.sides != other.sides or _turned(one, other),
    "kind": lambda one, other: one.kind != other.kind and frozenset((one.kind, other.kind)) not in ALIKE,
    "word": lambda one, other: not one.words or one.words != other.words or not _same_size(one, other),
}
"""Name → whether it keeps two questions apart, in the order in which they are tried."""


def veto(one: str, other: str, vetoes: tuple[str, ...] = tuple(VETOES)) -> str:
    """Which of the vetoes keeps the two questions apart; empty when none does."""
    a, b = read(one), read(other)
    return next((name for name in vetoes if VETOES[name](a, b)), "")
