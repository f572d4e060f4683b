"""Entities of a text without a model: names, defined terms and codes, found by form and compared by their words."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

Entity = tuple[str, ...]
"""Words of an entity, case-folded."""

MOST_WORDS = 6
"""Longest entity, in words; a code counts as one word a part (DMA-17: two)."""

_POSSESSIVE = re.compile(r"['’]s\b")
_WORD = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+")
_CAPITAL = r"(?<![-/\w])[A-ZÀ-ÖØ-Þ][^\W_]*\b(?![-/]\d)"
_NAME = re.compile(rf"{_CAPITAL}(?: (?:(?:of|for|de|la|van|von|du|del) )?(?:the )?{_CAPITAL})*")
_CODE = re.compile(r"\b(?=[\w/-]*\d)[A-Z][A-Za-z]*[-/]?\w*(?:[-/]\w+)*|(?<!\d)(?<!\d )\b[A-Z]{2,}\b(?![-/]\w)")
_NUMBERED = re.compile(rf"{_CAPITAL} (?:No\. ?)?\d+(?:[-/.][A-Za-z\d]+)*\b(?! ?%)")
_DEFINED = re.compile(r"[\"“]([^\"“”\n]{2,60})[\"”]|\*\*([^*\n]{2,60})\*\*")
_FOLLOWED = re.compile(r" ?\d")
_SENTENCE_ENDS = frozenset('.!?:;|>-*#"“(')
_OPENING = frozenset(
    re.findall(
        r"\w+",
        "a after all also an and any are as at because before but by can do does during each every for from has "
        "have he how if in is it its may most must new no not of on once one only or our shall she should since so "
        "some such that the their then there these they this those to under until up was we were what when where "
        "which while who why will with without you your",
    )
)
"""Words that begin sentences, never names."""


def _words(text: str) -> list[str]:
    return _WORD.findall(_POSSESSIVE.sub("", unicodedata.normalize("NFKC", text)))


def named(text: str) -> set[Entity]:
    """The entities that a text names; a number with its unit is none.

    Names: capitalised words in a row, or one inside a sentence. Where the row begins a sentence, also the row without
    its first word. Codes: a word with a capital and a digit, or of capitals only, and a capitalised word with a number
    (Form 12-B). Defined terms: a few words between double quotes or in bold, or one capitalised word.
    """
    plain = unicodedata.normalize("NFKC", text)
    found = {entity for part in _parts(plain) if (entity := _entity(part))}
    return {entity for entity in found if any(not word[0].isdigit() and len(word) > 1 for word in entity)}


def _parts(text: str) -> Iterator[str]:
    for match in _NAME.finditer(text):
        yield from _name(match, text)
    for pattern in (_CODE, _NUMBERED):
        for match in pattern.finditer(text):
            yield match.group()
    for match in _DEFINED.finditer(text):
        yield match.group(1) or match.group(2)


def _name(match: re.Match[str], text: str) -> Iterator[str]:
    """The names in a row of capitalised words."""
    first, *others = match.group().split(" ")
    before = text[max(0, match.start() - 2) : match.start()]
    if not others:
        inside = before[-1:] == " " and (before[0].islower() or before[0] == ",")
        if inside and not _FOLLOWED.match(text, match.end()):
            yield first
        return
    yield match.group()
    begins = not before.strip() or before.strip()[-1] in _SENTENCE_ENDS
    if begins and len(others) > 1:
        yield " ".join(others)


def _entity(part: str) -> Entity | None:
    words = _words(part)
    while words and words[0].casefold() in _OPENING:
        del words[0]
    if not 0 < len(words) <= MOST_WORDS or (len(words) == 1 and not words[0][0].isupper()):
        return None
    return tuple(word.casefold() for word in words)


class Finder:
    """Finds a fixed set of entities in texts: in whatever case, but a single word only where it has a capital."""

    def __init__(self, entities: Iterable[Entity]) -> None:
        self._entities = frozenset(entities)
        lengths: dict[str, set[int]] = {}
        for entity in self._entities:
            lengths.setdefault(entity[0], set()).add(len(entity))
        self._lengths = {word: sorted(widths) for word, widths in lengths.items()}

    def find(self, text: str) -> set[Entity]:
        """The entities whose words stand in the text, in a row; hyphens and possessive endings do not count."""
        written = _words(text)
        words = [word.casefold() for word in written]
        return {
            entity
            for start, word in enumerate(words)
            for width in self._lengths.get(word, ())
            if (entity := tuple(words[start : start + width])) in self._entities
            and (width > 1 or written[start][0].isupper())
        }
