"""A small grammar of plain English: subject, verb and rest of a sentence, so that a statement can become a question."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BE = ("is", "are", "was", "were")
MODALS = ("must", "may", "can", "will", "should", "could")
REGULAR = _words("""
    accept adjust alarm allow announce answer apply approve arrive ask attend award belong calculate call carry
    change charge check clean clear close collect compare compute concern confirm contain correct count cover
    cross delete deliver descale describe discharge dose drain earn employ empty end enter estimate expect
    expire explain fill filter fix flush forward grant heat help inspect install issue join last lift limit list
    lower maintain measure monitor move need note offer open operate order own park pass plan play pour prepare
    press print produce promise protect publish pump qualify raise reach receive record reduce refund refuse
    register remove rent repair replace reply report request require return review rinse sample save scan serve
    sign start stay stop store suit supply support switch test train transport treat try turn update use visit
    volunteer wait walk want warn wash wear weigh work
""")
_IRREGULAR = """
    become/became begin/began break/broke bring/brought build/built buy/bought choose/chose come/came cost/cost
    cut/cut do/did drive/drove fall/fell feed/fed find/found get/got give/gave go/went grow/grew have/had
    hold/held keep/kept know/knew leave/left let/let lose/lost make/made mean/meant meet/met pay/paid put/put
    read/read rise/rose run/ran say/said see/saw sell/sold send/sent set/set show/showed stand/stood take/took
    tell/told think/thought write/wrote
"""
IRREGULAR = dict(pair.split("/") for pair in _IRREGULAR.split())
BASES = sorted({*REGULAR, *IRREGULAR})
DETERMINERS = _words("The A An Each Every All Any Most Both")
NO_SUBJECT = _words(
    """
    This These That Those Such It They He She His Her Its Their Your You We Our I My There Here Nobody
    Nothing Somebody Everybody If When While After In On At During From For By To Until With Without Before
    Because Kindly Please No Neither Some Only Not And But Or So Then Who What Where How Why
    """
)
LEAD = re.compile(
    r"((?:In|On|During|From|After|Before|At|Since|Until|Under|Outside) [^,]{2,45}), (?=[a-zA-Z])|(In \d{4}) (?=[a-z])"
)


class Clause(NamedTuple):
    """`{subject} {verb} {rest}`; a question inverts it to `{auxiliary} {subject} {base} {rest}`."""

    subject: str
    verb: str
    auxiliary: str
    base: str
    rest: str
    lead: str
    """A leading phrase such as `in 2025`, lower case, that belongs at the end of a question; often empty."""
    spoken: str
    """The subject as it stands inside a question."""

    def asked(self, opening: str, rest: str) -> str:
        """The question that begins with `opening` and keeps `rest` of the statement."""
        parts = [opening, self.auxiliary, self.spoken, self.base, rest, self.lead]
        return re.sub(r"\s+", " ", " ".join(part for part in parts if part)).strip() + "?"


def third_person(base: str) -> str:
    """carry → carries, pass → passes, have → has."""
    if base == "have":
        return "has"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("s", "x", "ch", "sh", "o")) else "s")


def past(base: str) -> str:
    """open → opened, apply → applied, stop → stopped, begin → began."""
    if base in IRREGULAR:
        return IRREGULAR[base]
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    doubled = base in {"stop", "plan", "scan", "fit"}
    return base + (base[-1] if doubled else "") + "ed"


SINGULAR = {third_person(base): base for base in BASES}
PAST = {past(base): base for base in BASES if past(base) not in BASES}
FINITE = frozenset({*BE, *MODALS})
UNCLEAR = _words(
    "that which who when if because so while whether it its he she him his her they them their this these those"
)
"""Words that make the rest of a sentence a clause of its own, or point outside it."""
PLURAL_VERBS = _words("last take cost need have begin become get")


def lower_first(text: str, common: frozenset[str] = frozenset()) -> str:
    """Lower the first letter of a word that is no name, so that the phrase can stand inside a question.

    `common`: words known to be no names, lower case (see `common_words`).
    """
    first, _, rest = text.partition(" ")
    if first in DETERMINERS or (first.lower() in common and not rest[:1].isupper()):
        return f"{first[:1].lower()}{first[1:]} {rest}".strip()
    return text


def common_words(texts: Iterable[str]) -> frozenset[str]:
    """Words that are no names, lower case: written small somewhere, or large only at the start of a sentence."""
    small: set[str] = set()
    first: set[str] = set()
    names: set[str] = set()
    for text in texts:
        for sentence in sentences(text):
            small.update(re.findall(r"(?<=\s)[a-z]{2,}(?=[\s.,])", sentence))
            names.update(word.lower() for word in re.findall(r"(?<=[a-z]\s)[A-Z][a-z]+", sentence))
            first.update(word.lower() for word in re.findall(r"^[A-Z][a-z]+(?=\s[a-z])", sentence))
    return frozenset(small | (first - names))


def clause_of(sentence: str, common: frozenset[str] = frozenset()) -> Clause | None:
    """Subject, verb and rest of a plain statement; None where the sentence is anything less plain."""
    text = sentence.strip().rstrip(".")
    lead = ""
    found = LEAD.match(text)
    if found:
        phrase = found.group(1) or found.group(2)
        lead, text = phrase[:1].lower() + phrase[1:], text[found.end() :]
        text = text[:1].upper() + text[1:]
    if re.search(r"[;:!?()`\"“”]|,(?!\d)", re.sub(r"\d[:.,]\d", "", text)):
        return None
    words = text.split()
    place = _verb_place(words)
    if place is None or not _is_subject(words[:place]):
        return None
    rest = words[place + 1 :]
    if not rest or UNCLEAR.intersection(rest) or FINITE.intersection(rest[1:]):
        return None
    subject, verb = " ".join(words[:place]), words[place]
    return Clause(subject, verb, *_inverted(verb), " ".join(rest), lead, lower_first(subject, common))


def _inverted(verb: str) -> tuple[str, str]:
    """Auxiliary and base form with which a question is asked."""
    if verb in BE or verb in MODALS:
        return verb, ""
    if verb in SINGULAR:
        return "does", SINGULAR[verb]
    if verb in PAST:
        return "did", PAST[verb]
    return "do", verb


def _is_subject(words: list[str]) -> bool:
    first = words[0]
    return first[:1].isupper() and first not in NO_SUBJECT and len(words) <= 12 and first.isascii()


def _verb_place(words: list[str]) -> int | None:
    """Index of the main verb: the first finite verb that is neither in a relative clause nor a plural noun."""
    skip = 0
    for place in range(1, len(words)):
        if words[place] in {"who", "that", "which", "whose", "where", "when"}:
            skip += 1
            continue
        if _is_verb(words, place):
            if not skip:
                return place
            skip -= 1
    return None


def _is_verb(words: list[str], place: int) -> bool:
    word, before = words[place], words[place - 1]
    after = words[place + 1] if place + 1 < len(words) else ""
    if word in BE or word in MODALS:
        return True
    if after in FINITE or after in PLURAL_VERBS or before in {"the", "a", "an", "of", "and", "or", "per", "to"}:
        return False
    if word in SINGULAR or word in PAST:
        return True
    return word in BASES and _is_plural(words[:place]) and before not in SINGULAR


def _is_plural(subject: list[str]) -> bool:
    """Whether the head of a noun phrase, the word before its first preposition, looks like a plural."""
    joints = [
        place for place, word in enumerate(subject) if place and word in {"in", "of", "at", "for", "on", "with", "from"}
    ]
    head = subject[joints[0] - 1] if joints else subject[-1]
    return head in {"people", "People", "staff"} or (head.endswith("s") and not head.endswith("ss"))


def sentences(text: str) -> Iterator[str]:
    """Sentences and single lines of a text, white space folded, list numbers and bullets dropped, code left out."""
    code = False
    for line in text.splitlines():
        if line.startswith("```"):
            code = not code
            continue
        if code:
            continue
        for part in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", line.strip()):
            folded = re.sub(r"^(?:\d{1,2}[.)]|[-*•#]+)\s+", "", re.sub(r"\s+", " ", part).strip())
            if folded and not re.fullmatch(r"\d{1,2}[.)]", folded):
                yield folded
