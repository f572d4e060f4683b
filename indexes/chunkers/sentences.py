"""Where sentences end, by punctuation: for European languages and without a model."""

import re

_END = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-ZÀ-ÖØ-Þ0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|approx|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|Fig|fig|pp?|al|ca|Art)"
    r"|(?:^|[\s(])[A-Za-z]|\b[A-Z]\.[A-Z]|(?:^|\n)\s*\d{1,3}|\bNo)\.$"
)


def sentence_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Spans of the sentences of text[start:end], without the white space between them.

    A full stop after a usual abbreviation, an initial or the number of a list item ends no sentence.
    """
    spans: list[tuple[int, int]] = []
    begin = start
    for found in _END.finditer(text, start, end):
        stop = found.start() + 1
        if text[found.start()] == "." and _ABBREVIATION.search(text, max(begin, stop - 12), stop):
            continue
        spans.append((begin, found.start() + len(found.group().rstrip())))
        begin = found.end()
    if text[begin:end].strip():
        spans.append((begin, end))
    return spans
