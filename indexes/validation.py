"""Great Expectations suites for documents and for chunks, with Data Docs that open without a network.

The suites see lengths, shares, counts and ids, never the text, so Data Docs hold no personal data.
"""

import datetime
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from indexes.cache import ContentCache, NoCache
from indexes.duplicates import DuplicateSpec
from indexes.expectations import Expect, Row, Severity, ValidationReport, columns_of, run_suite
from indexes.sketches import normalized
from indexes.types import Chunk, Document
from infra.settings import Spec
from infra.store import text_digest

Level = Literal["error", "warning"]

_LANGUAGE = re.compile(r"(?!und\b|mul\b|zxx\b)[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
"""A language tag in the form of BCP 47 that names one language: `en`, `pt-BR`, `zh-Hant-TW`; not `und`."""
_MOJIBAKE = re.compile(
    r"[ÂÃ][\x80-\xbf]|Ã[€‚ƒ„…†‡ˆ‰Š‹ŒŽ–—˜™š›œžŸ]|â€.?|â[‚„][\x80-\xbf]|â[\x80-\x9f][\x80-\xbf]|ï»¿|ðŸ..?"
)
"""UTF-8 read as Latin-1 or Windows-1252: what accented letters, quotes, dashes, the euro and emoji turn into."""


class Levels(Spec):
    """How grave a broken rule is: an error stops the flow and names the rows, a warning is told and the flow goes on.

    Always errors: no row, an id that is missing or used twice, no text, no title, no access label, wrong offsets.
    """

    length: Level = "error"
    """Documents longer than `max_characters`."""
    duplicates: Level = "error"
    """More documents that repeat the text of another one than `max_duplicate_share`."""
    repeated_chunks: Level = "warning"
    """The same of chunks: menus and notices stand on many pages, and a context shows a passage once."""
    language: Level = "error"
    """A language that is not known, or not among `languages`."""
    encoding: Level = "error"
    """More broken characters than `max_broken_characters`, or more damage than `max_damaged_share`."""
    date: Level = "error"
    """A date before `earliest` or more than `max_future_days` ahead."""
    personal: Level = "warning"
    """More documents with personal data than `max_personal_share`."""
    tokens: Level = "error"
    """Chunks of more than `max_chunk_tokens`."""


class ValidationSpec(Spec):
    """Bounds of documents and chunks. A broken bound is as grave as `levels` says; a broken `usual` bound warns."""

    min_characters: int = Field(1, ge=1)
    """Least text of a document."""
    usual_min_characters: int = Field(200, ge=1)
    """A shorter document that is no table row is a warning."""
    max_characters: int = Field(2_000_000, ge=1)
    """Most text of a document."""
    earliest: datetime.date = datetime.date(1990, 1, 1)
    """No document is dated earlier."""
    max_future_days: int = Field(1, ge=0, le=3650)
    """Most days that a document may be dated ahead of now (UTC); 1 allows for time zones."""
    languages: tuple[str, ...] = ()
    """Languages that documents may have, as they name them (`en`, `pt-BR`). Empty: any that is known."""
    max_duplicate_share: float = Field(0.05, ge=0, le=1)
    """Most documents, and most chunks, that repeat the text of another one, as a share."""
    max_broken_characters: int = Field(0, ge=0)
    """Most replacement characters (signs of a wrong encoding) in a document."""
    max_damaged_share: float = Field(0.005, ge=0, le=1)
    """Most replacement characters and letters of misread UTF-8 (`Ã©` for é) in a document, as a share of its text."""
    max_personal_share: float | None = Field(None, ge=0, le=1)
    """Most documents with personal data as section `guards` describes it, as a share. None: it is not looked for."""
    min_chunk_characters: int = Field(1, ge=1)
    """Least text of a chunk."""
    usual_min_chunk_tokens: int = Field(5, ge=1)
    """A shorter chunk is a warning."""
    max_chunk_tokens: int = Field(500, ge=8)
    """Most tokens of a chunk."""
    levels: Levels = Levels()
    """Which broken bounds stop the flow."""
    duplicates: DuplicateSpec = DuplicateSpec()
    """What becomes of documents that repeat others."""


def validate_documents(
    documents: Sequence[Document],
    spec: ValidationSpec,
    docs_folder: Path,
    personal: Callable[[str], int] | None = None,
    counted: ContentCache | None = None,
    version: str = "",
) -> ValidationReport:
    """Run the document suite and write Data Docs into `docs_folder`. An empty corpus fails.

    `personal` counts the pieces of personal data in a text; it is needed if `spec.max_personal_share` is set. Its
    counts are kept in `counted` under its `version`, which has to change when they would. No text is held.
    """
    assert personal or spec.max_personal_share is None, "max_personal_share is set, and nothing finds personal data"
    texts: list[str] = []

    def rows() -> Iterator[Row]:
        for document, count in _with_personal(documents, personal, counted or NoCache(), version):
            texts.append(text_digest(normalized(document.text)))
            yield {
                "id": document.id,
                "title_characters": len(document.title.strip()),
                "characters": len(document.text.strip()),
                "prose_characters": None if document.media in ("sql", "csv", "xlsx") else len(document.text.strip()),
                "labels": len([label for label in document.access if label.strip()]),
                "date": _day_number(document.date) if document.date else None,
                "language": document.language if _LANGUAGE.fullmatch(document.language) else None,
                "broken_characters": document.text.count("\ufffd"),
                "damaged_share": damaged_share(document.text),
                "personal": count,
            }

    table = columns_of(rows())
    return run_suite("documents", table | _copies(texts), lambda expect: _document_suite(expect, spec), docs_folder)


def validate_chunks(chunks: Sequence[Chunk], spec: ValidationSpec, docs_folder: Path) -> ValidationReport:
    """Run the chunk suite and write Data Docs into `docs_folder`. A corpus without chunks fails. No text is held."""
    texts: list[str] = []

    def rows() -> Iterator[Row]:
        for chunk in chunks:
            texts.append(text_digest(chunk.text))
            yield {
                "id": chunk.id,
                "title_characters": len(chunk.title.strip()),
                "characters": len(chunk.text.strip()),
                "tokens": chunk.tokens,
                "start": chunk.start,
                "end": chunk.end,
                "labels": len([label for label in chunk.access if label.strip()]),
            }

    table = columns_of(rows())
    return run_suite("chunks", table | _copies(texts), lambda expect: _chunk_suite(expect, spec), docs_folder)


def _with_personal(
    documents: Sequence[Document], personal: Callable[[str], int] | None, counted: ContentCache, version: str
) -> Iterator[tuple[Document, int]]:
    """Every document with the pieces of personal data in it; 0 where nobody counts them."""
    if personal is None:
        yield from ((document, 0) for document in documents)
        return
    count = personal
    for found in counted.once(
        documents,
        lambda document: f"{version}/{text_digest(document.text)}",
        lambda document: str(count(document.text)).encode(),
    ):
        yield found.item, int(found.value)


def _copies(texts: Sequence[str]) -> dict[str, list[object]]:
    """The column that says how many other rows have the same text, by the digests of the texts."""
    counts = Counter(texts)
    return {"copies": [counts[text] - 1 for text in texts]}


def damaged_share(text: str) -> float:
    """Share of the characters that are U+FFFD or part of misread UTF-8 (0 to 1; 0 for no text)."""
    damaged = text.count("\ufffd") + sum(len(found) for found in _MOJIBAKE.findall(text))
    return damaged / max(1, len(text))


def _severity(level: Level) -> Severity:
    return "critical" if level == "error" else "warning"


def _day_number(day: datetime.date) -> int:
    """2026-01-31 → 20260131, which compares as the date does."""
    return int(day.strftime("%Y%m%d"))


def _table_rules(expect: Expect, spec: ValidationSpec, repeated: Level) -> list[Any]:
    """What holds for every table: some rows, ids present and unique, access labels, few that repeat another one."""
    return [
        expect.kinds.ExpectTableRowCountToBeBetween(min_value=1, severity="critical"),
        expect.present("id"),
        expect.kinds.ExpectColumnValuesToBeUnique(column="id", severity="critical"),
        expect.between("labels", 1, None),
        expect.between("title_characters", 1, None),
        expect.among("copies", [0], _severity(repeated), mostly=1 - spec.max_duplicate_share),
        expect.among("copies", [0], "warning"),
    ]


def _document_suite(expect: Expect, spec: ValidationSpec) -> list[Any]:
    last = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=spec.max_future_days)
    levels = spec.levels
    encoding, language = _severity(levels.encoding), _severity(levels.language)
    rules = [
        *_table_rules(expect, spec, levels.duplicates),
        expect.between("characters", spec.min_characters, None),
        expect.between("characters", None, spec.max_characters, _severity(levels.length)),
        expect.between("prose_characters", spec.usual_min_characters, None, "warning"),
        expect.between("broken_characters", 0, spec.max_broken_characters, encoding),
        expect.between("damaged_share", 0, spec.max_damaged_share, encoding),
        expect.between("date", _day_number(spec.earliest), _day_number(last), _severity(levels.date)),
        expect.present("date", "warning"),
        expect.present("language", language),
    ]
    if spec.languages:
        rules.append(expect.among("language", spec.languages, language))
    if spec.max_personal_share is not None:
        rules.append(expect.among("personal", [0], _severity(levels.personal), mostly=1 - spec.max_personal_share))
    return rules


def _chunk_suite(expect: Expect, spec: ValidationSpec) -> list[Any]:
    return [
        *_table_rules(expect, spec, spec.levels.repeated_chunks),
        expect.between("characters", spec.min_chunk_characters, None),
        expect.between("tokens", 1, None),
        expect.between("tokens", None, spec.max_chunk_tokens, _severity(spec.levels.tokens)),
        expect.between("tokens", spec.usual_min_chunk_tokens, None, "warning"),
        expect.between("start", 0, None),
        expect.kinds.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end", column_B="start", severity="critical"),
    ]
