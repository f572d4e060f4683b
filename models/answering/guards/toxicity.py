"""Toxic language by a list of words: insults, slurs, obscenities and threats, also spelled in disguise.

It is a lexical rule: it finds the words, not the meaning.
"""

import re
from collections.abc import Iterator
from itertools import groupby

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
