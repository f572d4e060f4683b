"""Toxic language by a list of words: insults, slurs, obscenities and threats, also spelled in disguise.

It is a lexical rule: it finds the words, not the meaning.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from string import ascii_lowercase

from models.answering.guards.watch import CONTEXT, Hit, PatternWatch, last_word

# A word that ends in * also counts with any ending.
WORDS = {
    "insult": """
        asshole* bastard* bitch* bollocks cretin* cunt* dickhead* dipshit* douchebag* dumbass* fuckwit* halfwit* idiot
        idiots imbecile* jackass* moron morons motherfuck* numbskull* prick pricks scumbag* shithead* slut* twat twats
        wanker* whore*
    """,
    "obscenity": "arse bullshit* cocksuck* crap fuck* goddamn* piss pissed shit shits shitty shitting",
    "slur": """
        coon coons faggot* gook gooks kike kikes nigga* nigger* paki pakis raghead* retard retards shemale* spic spics
        tranny trannies wetback* wog wogs
    """,
}
PHRASES = {
    "threat": r"""
        (?:i|we)(?:\s+(?:will|shall)|['’]ll|\s+am\s+going\s+to|['’]m\s+going\s+to|['’]re\s+going\s+to|\s+are\s+going\s+to)
        \s+(?:kill|murder|hurt|stab|shoot|rape|beat)\s+(?:you|him|her|them)
        |(?:kill|hang|shoot)\s+yourself|you\s+(?:should|deserve\s+to|must)\s+die|hope\s+you\s+die
    """,
    "insult": r"""
        you(?:\s+are|['’]re)?\s+(?:a\s+|an\s+|so\s+|such\s+an?\s+)?(?:\w+\s+)?
        (?:stupid|retarded|worthless|pathetic|disgusting|subhuman|filthy\s+animal|piece\s+of\s+(?:shit|trash|garbage))
        |shut\s+up
    """,
}

SPELLED = {
    "a": "a4@", "b": "b8", "c": "c(", "e": "e3", "g": "g9", "i": "i1!|", "l": "l1|", "o": "o0", "s": "s5$", "t": "t7+",
    "u": "uv", "z": "z2",
}  # fmt: skip
"""Characters that stand for a letter."""


def _spelled(word: str, between: str) -> str:
    """A word as a pattern: letters may be repeated or replaced, with `between` between them."""
    stem = word.rstrip("*")
    end = "" if word.endswith("*") else r"(?![^\W_])"
    parts = []
    for letter, run in groupby(stem):
        one = f"[{re.escape(SPELLED.get(letter, letter))}]"
        more = len(list(run)) - 1
        parts.append(f"{one}(?:{between}{one}){{{more},}}" if more else f"{one}+")
    return between.join(parts) + end


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for kind, listed in WORDS.items():
        words = listed.split()
        whole = "|".join(_spelled(word, r"[._*\-]?") for word in words)
        letters = "|".join(_spelled(word, r"[\W_]{1,2}") for word in words)
        yield kind, re.compile(rf"(?<![^\W_])(?:{whole}|{letters})", re.IGNORECASE)
    for kind, phrases in PHRASES.items():
        yield kind, re.compile(rf"\b(?:{phrases})\b", re.IGNORECASE | re.VERBOSE)


PATTERNS = tuple(_patterns())
UNSURE = frozenset(char for chars in SPELLED.values() for char in chars if not char.isalnum())
"""Characters that stand for a letter or between letters."""
_ALIKE = {**dict.fromkeys("il1", "i"), **dict.fromkeys("uv", "u")}
_LETTER = {char: _ALIKE.get(letter, letter) for letter, chars in SPELLED.items() for char in chars}
_BONES = {place: _LETTER.get(chr(place), chr(place)) if chr(place).isalnum() else None for place in range(128)}
_OPENED = re.compile(
    r"\b(?:kill|murder|hurt|stab|shoot|rape|beat|yourself|die|stupid|retarded|worthless|pathetic|disgusting|subhuman"
    r"|filthy|piece|shut)"
)
"""One of these is in every phrase, in small letters."""


def _bones(text: str) -> str:
    """The letters of a text in small letters alone, one for all that are written alike."""
    return text.translate(_BONES)


def _once(bones: str) -> str:
    """Every run of a letter as one letter."""
    for letter in ascii_lowercase:
        while letter + letter in bones:
            bones = bones.replace(letter + letter, letter)
    return bones


def _stems() -> dict[str, re.Pattern[str]]:
    """The words with every run of letters made one, and a pattern that has the runs again."""
    bones = {_bones(word) for listed in WORDS.values() for word in listed.split()}
    runs = ((word, [(letter, len(list(run))) for letter, run in groupby(word)]) for word in bones)
    return {_once(word): re.compile("".join(f"{one}{{{many},}}" for one, many in run)) for word, run in runs}


STEMS = _stems()


def is_clean(text: str) -> bool:
    """Whether no pattern can be in a text, told in a sixth of their time; False where that is not sure."""
    small = text.lower()
    if not text.isascii() or not UNSURE.isdisjoint(text) or _OPENED.search(small):
        return False
    bones = _bones(small)
    once = _once(bones)
    return not any(STEMS[stem].search(bones) for stem in [stem for stem in STEMS if stem in once])


LONE = re.compile(r"(?:(?<![^\W_])[^\W_]{1,3}[\W_]{1,2})+$")
"""Letters that stand alone at the end: the next one may finish a spelled word."""
OPENING = re.compile(
    r"\b(?:(?:i|we)(?:['’]\w*|\s+(?:will|shall|am|are|going|to))*(?:\s+(?:kill|murder|hurt|stab|shoot|rape|beat))?"
    r"|you(?:['’]re|\s+(?:are|a|an|so|such|should|must|deserve|to|filthy|piece|of))*(?:\s+\w+)?(?:\s+(?:filthy|piece|of))*"
    r"|kill|hang|shoot|shut|hope(?:\s+you)?)\s*$",
    re.IGNORECASE,
)
"""The beginning of a phrase, up to the word that is still being written."""
OPENED = 64
"""Characters of the longest phrase."""


def toxic(text: str) -> Iterator[Hit]:
    """Every toxic place of a text, by kind."""
    if is_clean(text):
        return
    for kind, pattern in PATTERNS:
        for match in pattern.finditer(text):
            yield Hit(kind, match.start())


def waiting(text: str) -> int:
    """From where a text may still become toxic: an unfinished word, letters that stand alone, an opened phrase."""
    last = place = last_word(text)
    for beginning, reach in ((LONE, CONTEXT), (OPENING, OPENED)):
        if found := beginning.search(text, max(0, last - reach), last):
            place = min(place, found.start())
    return place


def toxicity_watch() -> PatternWatch:
    """A watch for one answer."""
    return PatternWatch("toxicity", toxic, waiting)
