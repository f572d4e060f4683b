"""Which formats are read: by file suffix and by content type, and what to do about those that are not."""

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from infra.errors import InputError

MEDIA = {
    ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".pdf": "pdf", ".docx": "docx",
    ".pptx": "pptx", ".xlsx": "xlsx", ".csv": "csv", ".tsv": "csv", ".txt": "text",
}  # fmt: skip
"""Suffix → format of the documents that the reading process reads. JSON lines are many documents each."""
JSONL = ".jsonl"

_DATABASES = (".sqlite", ".sqlite3", ".db")
_MACROS = {
    ".docm": ".docx", ".dotm": ".docx", ".pptm": ".pptx", ".potm": ".pptx", ".ppsm": ".pptx", ".xlsm": ".xlsx",
    ".xltm": ".xlsx", ".xlam": ".xlsx",
}  # fmt: skip
_OLD = {".doc": "Word", ".ppt": "PowerPoint", ".xls": "Excel"}
_OFFICE = "application/vnd.openxmlformats-officedocument"
_TYPES = {
    "text/html": ".html", "application/xhtml+xml": ".html", "application/pdf": ".pdf", "text/markdown": ".md",
    "text/x-markdown": ".md", "text/csv": ".csv", "text/tab-separated-values": ".tsv",
    f"{_OFFICE}.wordprocessingml.document": ".docx", f"{_OFFICE}.presentationml.presentation": ".pptx",
    f"{_OFFICE}.spreadsheetml.sheet": ".xlsx", "application/x-ndjson": JSONL, "application/jsonl": JSONL,
}  # fmt: skip
_VAGUE = ("", "text/plain", "application/octet-stream", "binary/octet-stream", "application/zip")
"""Types that servers send for files that they do not know: the address decides."""


def check_suffix(suffix: str) -> None:
    """Raises InputError, saying what to do, for a suffix (lower case) whose files are not read."""
    if suffix in MEDIA or suffix == JSONL:
        return
    if suffix in _DATABASES:
        raise InputError("a database: name its tables under corpus.sql")
    if suffix in _MACROS:
        raise InputError(f"holds macros: save it as {_MACROS[suffix]} without them")
    if suffix in _OLD:
        raise InputError(f"an old {_OLD[suffix]} file: save it as {suffix}x")
    named = suffix or "without a suffix"
    raise InputError(f"format {named} is not read: convert it to {', '.join(sorted(MEDIA))} or {JSONL}")


def check_size(size: int, limit: int) -> None:
    """Raises InputError for a file of no bytes or of more than `limit`."""
    if size == 0:
        raise InputError("empty: the file has zero bytes")
    if size > limit:
        raise InputError(f"{size} bytes are more than the limit of {limit}: split it or raise corpus.max_bytes")


def suffix_of(content_type: str, place: str) -> str:
    """The suffix for a `Content-Type` and the address it came from. Raises InputError for a type that is not read."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _TYPES:
        return _TYPES[kind]
    named = PurePosixPath(unquote(urlsplit(place).path)).suffix.lower()
    if kind in _VAGUE and (named in MEDIA or named == JSONL):
        return named
    if kind == "text/plain":
        return ".txt"
    raise InputError(f"content type {kind or 'not stated'} is not read")
