"""Answer texts made comparable: SQuAD normalisation with numbers kept, token overlap, citation markers."""

import re
import unicodedata
from collections import Counter

CITATION = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_APOSTROPHES = re.compile(r"['’‘`´]")
_PUNCTUATION = re.compile(r"[^\w\s.:,]|_|(?<!\d)[.:,]|[.:,](?!\d)")
_ARTICLES = frozenset(("a", "an", "the"))


def cited_numbers(text: str) -> list[int]:
    """Passage numbers in `[1]` and `[1, 3]` markers, in order, with repeats."""
    return [int(number) for marker in CITATION.findall(text) for number in re.findall(r"\d+", marker)]


def without_citations(text: str) -> str:
    """The text without its citation markers."""
    return CITATION.sub("", text).strip()


def tokens(text: str) -> list[str]:
    """Tokens of SQuAD's normalisation (Rajpurkar et al. 2016): case, articles, punctuation and spacing do not count.

    Two departures: punctuation inside a number stays (6.40, 14:30; thousands separators go), and other punctuation
    separates words instead of gluing them together.
    """
    folded = unicodedata.normalize("NFKC", without_citations(text)).casefold()
    plain = _PUNCTUATION.sub(" ", _APOSTROPHES.sub("", _THOUSANDS.sub("", folded)))
    return [token for token in plain.split() if token not in _ARTICLES]


def parts(text: str) -> list[list[str]]:
    """Token lists of the `;`-separated parts of an answer (two-document answers are written "A; B"), empty ones out."""
    return [found for part in without_citations(text).split(";") if (found := tokens(part))]


def exact_match(answer: str, reference: str) -> bool:
    """Equal after normalisation; the parts of an "A; B" answer may come in either order."""
    return sorted(parts(answer)) == sorted(parts(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall; 1 where both are empty."""
    found, wanted = Counter(tokens(answer)), Counter(tokens(reference))
    shared = (found & wanted).total()
    if not found or not wanted:
        return float(found == wanted)
    return 2 * shared / (found.total() + wanted.total())


def contains_run(haystack: list[str], needle: list[str]) -> bool:
    """Whether `needle` occurs in `haystack` as one unbroken run of tokens."""
    width = len(needle)
    return any(haystack[start : start + width] == needle for start in range(len(haystack) - width + 1))
