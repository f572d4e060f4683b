"""Questions made out of the corpus by rule: a sentence or table row of a known shape becomes (question, answer)."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from indexes.types import Chunk
from models.training.grammar import BE, MODALS, Clause, clause_of, common_words, lower_first, sentences
from models.training.patterns import ABOUT, AMOUNT, CLOCK, DATE, LASTING, MEASURE, NUMBER, SPAN, TIME, WEEKDAY
from models.training.tables import Row, asked_cell, cells_of, column_name, key_width

PLACE = (
    "(?:in|at|behind|beside|next to|opposite|near|below|above|between|on|inside|outside) "
    r"(?:the |a |an )?[A-Za-z0-9][\w' -]{2,48}"
)
NO_PLACE = re.compile(
    rf"\d{{4}}|{TIME}|\b{NUMBER} |\b(?:day|week|month|year|quarter|time|night|morning|UTC)s?\b"
    r"|^\w+ (?:[a-z]+ing|request|duty|use|force|time|call|order|hand|average)\b"
)
UNSAFE = re.compile(
    r"\b(?:ignore|disregard|instructions?|assistant|private|IBAN|account number)\b|@example\.|\b555-|\b\d{9,}\b",
    re.IGNORECASE,
)
"""Sentences that ask the reader to do something else, or hold a private person's data: never learnt from."""

PEOPLE = (
    "team|leader|manager|officer|desk|controller|adviser|technician|laboratory|landlord|engineer|inspector|operator|"
    "driver|director|clerk|crew|planner|sampler|supervisor|head|employee|owner|board|office|room|chemist|fitter|tenant|"
    "contractor|plumber|member|trainer|buyer|store"
)
DIMENSIONS = "long|wide|deep|high|old|thick|tall|away|heavy|large"


class Made(NamedTuple):
    """A question made from one sentence, its verbatim answer, and the sentence."""

    question: str
    answer: str
    evidence: str


Found = tuple[str, str]
"""(question, answer)"""


def _cut(clause: Clause, pattern: str, opening: str) -> Found | None:
    """Ask for group 1 of `pattern` in the rest of the clause; what follows must be a phrase of its own."""
    match = re.search(rf"(?:^|(?<=\s)){pattern}(?=$|\s)", clause.rest)
    if not match:
        return None
    before, after = clause.rest[: match.start()].strip(), clause.rest[match.end() :].strip()
    if after and not re.match(r"(?:after|before|from|for|in|at|on|with|by|during|about)\b", after):
        return None
    is_value = clause.verb in BE and re.match(rf"{NUMBER} |new\b", before)
    if is_value or re.search(r"\b(?:and|or|of|than|between|to|from|until|every)$", before):
        return None
    return clause.asked(opening, f"{before} {after}"), match.group(1)


def _within(clause: Clause) -> Found | None:
    return _cut(clause, rf"within ({NUMBER} {SPAN}|one [a-z]+)", "Within what time")


def _point_in_time(clause: Clause) -> Found | None:
    ranged = _cut(clause, rf"from ({TIME}(?: at {CLOCK})? to {TIME}(?: from {CLOCK} to {CLOCK})?)", "When")
    if ranged or re.search(rf"from {TIME}", clause.rest):
        return ranged
    for word in ("until", "by", "before", "since"):
        found = _cut(clause, rf"{word} ({TIME}(?: at {CLOCK})?)", f"{word.capitalize()} when")
        if found:
            return found
    point = rf"(?:the first |the last )?{TIME}(?: of [a-z]+ [a-z]+| at {CLOCK})?|\d{{4}}"
    return _cut(clause, rf"(?:on|at|in) ({point})", "When")


def _how_often(clause: Clause) -> Found | None:
    times = rf"(?:once|twice|{NUMBER} times) (?:a|per|each|every|in) (?:{NUMBER} )?[a-z]+"
    every = rf"every (?:{NUMBER} )?(?:{SPAN}|{WEEKDAY}|second [a-z]+)(?: at {CLOCK})?"
    return _cut(clause, rf"({every}|{times})", "How often")


def _how_long(clause: Clause) -> Found | None:
    found = _cut(clause, rf"for ({LASTING})", "For how long") or _cut(clause, rf"after ({LASTING})", "After how long")
    if not found and clause.base in {"take", "last"}:
        found = _cut(clause, rf"^({LASTING})", "How long")
    return found


def _ahead(clause: Clause) -> Found | None:
    """ "announces a price 45 days before it starts" → "How long before it starts …?" """
    match = re.search(rf"(?:^|\s)({LASTING}) ((?:before|after|ahead of|in advance)\b.*)$", clause.rest)
    if not match or re.search(r"\b(?:of|than|within|for)$", clause.rest[: match.start()].strip()):
        return None
    opening = f"How long {match.group(2)}"
    return clause.asked(opening, clause.rest[: match.start()].strip()), match.group(1)


def _dimension(clause: Clause) -> Found | None:
    """ "is 2.6 kilometres long" → "How long is …?" """
    match = re.fullmatch(rf"((?:{ABOUT})?{NUMBER} (?:{MEASURE}|{SPAN})) ({DIMENSIONS})", clause.rest)
    if not match or clause.verb not in BE:
        return None
    return clause.asked(f"How {match.group(2)}", ""), match.group(1)


def _amount(clause: Clause) -> Found | None:
    """An amount as the whole object or complement: "costs 49 euros" → "How much does … cost?" """
    match = re.fullmatch(rf"({AMOUNT})((?: (?:for|of|from|in|on|at|to) .+)?)", clause.rest)
    if not match:
        return None
    amount, after = match.group(1), match.group(2).strip()
    if clause.verb in BE:
        return None if after else (clause.asked("How much" if "euro" in amount else "What", ""), amount)
    if clause.verb in MODALS or after.startswith("to "):
        return None
    if after.startswith("of "):
        noun = re.match(r"of ((?:the )?[a-z ]{3,25}?)(?= (?:at|in|on|from|for|to|a|per|each|every)\b|$)", after)
        if not noun:
            return None
        opening = f"What share of {noun.group(1)}" if "percent" in amount else f"How much {noun.group(1)}"
        if opening.startswith("How much the "):
            return None
        return clause.asked(opening, after[noun.end() :]), amount
    opening = "How long" if re.fullmatch(LASTING, amount) else "How much"
    return clause.asked(opening, after), amount


def _object_of(clause: Clause) -> Found | None:
    """ "gets a discount of 12 euros a year" → "What discount does … get?" """
    match = re.match(rf"(?:a|an) ([a-z][a-z -]{{2,30}}) of ({AMOUNT})(?=$| (?:for|in|on|at|from))(.*)", clause.rest)
    if not match or clause.verb in BE or clause.verb in MODALS:
        return None
    return clause.asked(f"What {match.group(1)}", match.group(3).strip()), match.group(2)


def _count(clause: Clause) -> Found | None:
    """ "has six aeration lanes" → "How many aeration lanes does … have?" """
    things = r"(?:[a-z-]+ ){0,2}?[a-z-]+s|people"
    after = r"(?=$| (?:a|per|each|in|on|at|for|from|of|to|every|with|by) )"
    match = re.match(rf"((?:{ABOUT})?{NUMBER} ({things})){after}(.*)", clause.rest)
    if not match or clause.verb in BE or re.match(rf"(?:{MEASURE}|{SPAN}|times)\b", match.group(2)):
        return None
    kept = match.group(3).strip()
    if clause.verb in MODALS or re.search(rf"\b(?:and|or)\b|{NUMBER} ", kept):
        return None
    return clause.asked(f"How many {match.group(2)}", kept), match.group(1)


def _counted_subject(clause: Clause) -> Found | None:
    """ "About 7,900 homes in Hollinstead get a new meter" → "How many homes in Hollinstead get a new meter?" """
    match = re.match(rf"((?:{ABOUT})?{NUMBER} ([a-z-]+s|people))\b(.*)", clause.subject, re.IGNORECASE)
    if not match or re.fullmatch(f"{SPAN}|{MEASURE}", match.group(2)):
        return None
    counted = f"How many {match.group(2)}{match.group(3)}"
    return f"{counted} {clause.verb} {clause.rest} {clause.lead}".strip() + "?", match.group(1)


def _who(clause: Clause) -> Found | None:
    """ "The shift leader signs the permit" → "Who signs the permit?" """
    is_person = re.search(rf"^(?:The|A|An) (?:[\w-]+ ){{0,3}}?(?:{PEOPLE})(?: (?:of|for) [\w ]+)?$", clause.subject)
    has_object = re.match(r"(?:[a-z]+ )?(?:the|a|an|each|every|all) ", clause.rest)
    if not is_person or not has_object or clause.verb in BE or re.search(r"\d{3} \d{3}|@", clause.rest):
        return None
    return f"Who {clause.verb} {clause.rest} {clause.lead}".strip() + "?", clause.subject


def _where(clause: Clause) -> Found | None:
    """ "The store is at Sallow Bridge Works" → "Where is the store?" """
    states = "kept|parked|stored|held|placed|shown|printed|displayed|available"
    match = re.fullmatch(rf"((?:{states}) )?({PLACE})", clause.rest)
    if not match or not (clause.verb in BE or clause.base in {"stand", "wait"}):
        return None
    if NO_PLACE.search(match.group(2)):
        return None
    return clause.asked("Where", (match.group(1) or "").strip()), match.group(2)


def _contact(clause: Clause) -> Found | None:
    opening = "At which mail address" if clause.base == "answer" else "To which mail address"
    mail = _cut(clause, r"(?:to|at|by mail to) ([\w.+-]+@[\w.-]+\w)", opening)
    if mail or (clause.verb in BE and "reach" not in clause.rest):
        return mail
    return _cut(clause, r"(?:(?:on )?(?:the (?:phone )?number )?)?(0\d{3} \d{3} \d{4})", "On which phone number")


def _name(clause: Clause) -> Found | None:
    """ "The month without a payment is December" → "What is the month without a payment?" """
    value = clause.rest
    if clause.verb not in BE or len(value.split()) > 5 or not re.match(r"(?:The|A|An|Each) ", clause.subject):
        return None
    if re.fullmatch(rf"{DATE}|{CLOCK}", value):
        return clause.asked("When", ""), value
    names = r"(?:the |a )?[A-Z][\w' -]+|[a-z]+ [A-Z][\w-]*\d[\w-]*"
    if not re.fullmatch(rf"{names}|0\d{{3}} \d{{3}} \d{{4}}|\d[\w.,/-]*", value):
        return None
    return clause.asked("What", ""), value


RULES: tuple[Callable[[Clause], Found | None], ...] = (
    _within,
    _point_in_time,
    _how_often,
    _how_long,
    _ahead,
    _dimension,
    _amount,
    _object_of,
    _count,
    _counted_subject,
    _who,
    _where,
    _contact,
    _name,
)


def _of_sentence(sentence: str, common: frozenset[str]) -> Iterator[Made]:
    """Every question that the rules find in one sentence."""
    clause = clause_of(sentence, common)
    if clause is None:
        return
    for rule in RULES:
        found = rule(clause)
        if found:
            yield Made(found[0], found[1], sentence)


class QuestionMaker:
    """Makes questions from chunks, knowing all of them: their tables' rows, and which words are no names."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._common = common_words(chunk.text for chunk in chunks)
        self._rows: dict[str, list[Row]] = {}
        for chunk in chunks:
            rows = self._rows.setdefault(chunk.document, [])
            rows += [cells for line in chunk.text.splitlines() if (cells := cells_of(line))]

    def questions(self, chunk: Chunk) -> list[Made]:
        """Every question the rules can make of a chunk; rows first, then sentences, in the order of its text."""
        made: list[Made] = []
        for line in chunk.text.splitlines():
            made += self._of_row(line.strip(), self._rows.get(chunk.document, []))
        for sentence in sentences(chunk.text):
            if not cells_of(sentence):
                made += _of_sentence(sentence, self._common)
        return [item for item in made if _is_good(item)]

    def _of_row(self, line: str, rows: Sequence[Row]) -> Iterator[Made]:
        """A question for each column of a table row that its leading columns name."""
        cells = cells_of(line)
        width = key_width(cells, rows) if cells else 0
        heads = [column_name(name) for name, _ in cells[:width]]
        if not width or not all(heads):
            return
        first = cells[0][1]
        named = f"{heads[0]} {first}" if len(first) < 4 or first.isdigit() else lower_first(first, self._common)
        others = [f"{head} {value}" for head, (_, value) in zip(heads[1:], cells[1:width], strict=True)]
        for name, value in cells[width:]:
            question = asked_cell(name, value, " in ".join([named, *others]))
            if question:
                yield Made(question, value.rstrip("."), line)


def _is_good(made: Made) -> bool:
    fits = len(made.answer) <= 60 and 15 <= len(made.question) <= 160
    return fits and not UNSAFE.search(made.evidence) and made.answer.casefold() not in made.question.casefold()
