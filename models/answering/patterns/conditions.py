"""Filters read from a question by rule: dates and spans of dates, formats of documents, titles in quotation marks.

A date is taken as that of the document, which is all that a passage knows of time: "in 2024" finds what was written in
2024, not what was written about it later.
"""

import calendar
import datetime
import re
from typing import NamedTuple

from indexes.filters import Filters

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTH = "|".join(_MONTHS)
_DATE = (
    rf"(?:\d{{4}}-\d{{2}}-\d{{2}}|(?:\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?)?(?:{_MONTH})\s+(?:19|20)\d{{2}}"
    r"|(?:19|20)\d{2})\b(?![-.,]?\d)"
)
_YEAR = re.compile(r"(?:19|20)\d{2}")
_PART = re.compile(rf"(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?)?(?P<month>{_MONTH})\s+(?P<year>\d{{4}})")

_BETWEEN = re.compile(rf"\b(?:between|from)\s+({_DATE})\s+(?:and|to|until|till)\s+({_DATE})", re.IGNORECASE)
_BOUND = re.compile(
    rf"\b(?P<word>since|from|after|before|until|till|up\s+to|in|during|on|dated)\s+(?:the\s+)?(?:year\s+)?"
    rf"(?P<date>{_DATE})",
    re.IGNORECASE,
)

_FORMATS = {
    "pdf": ("pdf",), "docx": ("docx",), "word": ("docx",), "xlsx": ("xlsx",), "excel": ("xlsx",),
    "spreadsheet": ("xlsx", "csv"), "csv": ("csv",), "pptx": ("pptx",), "powerpoint": ("pptx",), "slides": ("pptx",),
    "html": ("html", "htm"), "web page": ("html", "htm"), "markdown": ("md", "markdown"),
}  # fmt: skip
_FORMAT = re.compile(
    rf"\b(?:in|from|of|by)\s+(?:the|an?|any|all|our|your|this|that)\s+(?P<kind>{'|'.join(_FORMATS)})s?\b"
    rf"|\b(?P<named>{'|'.join(_FORMATS)})\s+(?:files?|documents?)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"\b(?:in|from|titled|entitled|called|named|according\s+to|document|page|guide|report)\s+(?:the\s+)?(?:(?:document|page|guide|report)\s+)?"
    r"(?:\"(?P<plain>[^\"]{3,120})\"|“(?P<curly>[^”]{3,120})”|«(?P<angle>[^»]{3,120})»)",
    re.IGNORECASE,
)


class Days(NamedTuple):
    """First and last day of what a date names: a day, a month or a year."""

    first: datetime.date
    last: datetime.date


def conditions(question: str) -> Filters:
    """The filters that a question states; none where it states none, or states dates that exclude each other."""
    since, until = _dates(question)
    if since and until and since > until:
        since = until = None
    return Filters(documents=_documents(question), since=since, until=until, title=_title(question))


def days(text: str) -> Days | None:
    """The days of `2024`, `April 2024`, `1 April 2024` or `2024-04-01`; None for a day that no calendar has."""
    text = text.lower()
    try:
        if _YEAR.fullmatch(text):
            year = int(text)
            return Days(datetime.date(year, 1, 1), datetime.date(year, 12, 31))
        named = _PART.fullmatch(text)
        if named is None:
            day = datetime.date.fromisoformat(text)
            return Days(day, day)
        year, month = int(named["year"]), _MONTHS[named["month"]]
        if named["day"]:
            day = datetime.date(year, month, int(named["day"]))
            return Days(day, day)
        return Days(datetime.date(year, month, 1), datetime.date(year, month, calendar.monthrange(year, month)[1]))
    except ValueError:
        return None


def _dates(question: str) -> tuple[datetime.date | None, datetime.date | None]:
    span = _BETWEEN.search(question)
    if span:
        first, last = days(span[1]), days(span[2])
        return (first.first, last.last) if first and last else (None, None)
    since: datetime.date | None = None
    until: datetime.date | None = None
    for found in _BOUND.finditer(question):
        named, word = days(found["date"]), " ".join(found["word"].lower().split())
        if named is None:
            continue
        if word in ("since", "from"):
            since = named.first
        elif word == "after":
            since = named.last + datetime.timedelta(days=1)
        elif word == "before":
            until = named.first - datetime.timedelta(days=1)
        elif word in ("until", "till", "up to"):
            until = named.last
        else:
            since, until = named
    return since, until


def _documents(question: str) -> tuple[str, ...]:
    """Patterns of document ids, whatever the case of their endings."""
    kinds = [(found["kind"] or found["named"]).lower() for found in _FORMAT.finditer(question)]
    endings = dict.fromkeys(ending for kind in kinds for ending in _FORMATS[kind])
    return tuple("*." + "".join(f"[{letter}{letter.upper()}]" for letter in ending) for ending in endings)


def _title(question: str) -> str:
    found = _TITLE.search(question)
    return (found["plain"] or found["curly"] or found["angle"]) if found else ""
