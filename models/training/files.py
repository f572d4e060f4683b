"""Files of training data: JSON lines, a JSON list, CSV or Parquet, told by their content; every bad row is named."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from pydantic import Field

from infra.errors import InputError
from infra.settings import Spec
from models.training.curation import Refused
from models.training.formats import Fields, Format, Row, RowError, document_of, format_of, row_of
from models.training.gathered import Gathered, GatheredRow

BAD_LISTED = 1000
"""Bad rows that are listed, at most; all are counted."""
_NAMED = 10
"""Bad rows that an error message names."""
_BOM = b"\xef\xbb\xbf"
_WHITE = re.compile(r"[ \t\r\n]*")


class FileSpec(Spec):
    """A file of training data."""

    path: str = Field(min_length=1)
    """Relative to the policy file."""
    format: Literal["auto", Format] = "auto"
    """What its rows are; `auto` tells it by their fields."""


class FileLimits(Spec):
    """What is let pass in a file."""

    max_bad_share: float = Field(0.0, ge=0, lt=1)
    """Largest share of unusable rows with which the others are taken; with more the file is refused."""
    max_line_bytes: int = Field(1_000_000, ge=1_000, le=100_000_000)
    """Longest line of a file."""


class BadRow(Spec):
    """A row that cannot be learnt from."""

    line: int
    """From 1; the first line of a row that has several. In Parquet the number of the row."""
    reason: str


class FileRow(NamedTuple):
    """A row, and the document that it names as its source, where it names one."""

    row: Row
    document: str


class TrainingFile(NamedTuple):
    """What a file held."""

    format: Format
    rows: list[FileRow]
    bad: list[BadRow]
    """In the order of the file, the first BAD_LISTED of them."""
    bad_count: int


class _Read(NamedTuple):
    """A row as it was read: what it is, or why it is none."""

    line: int
    format: Format | None = None
    row: Row | None = None
    document: str = ""
    reason: str = ""


def gather_files(files: Iterable[FileSpec], limits: FileLimits, root: Path) -> Gathered:
    """The rows of several files, their paths relative to `root`; bad rows that were let pass are refused ones.

    Raises InputError as `read_training_file` does.
    """
    every = [gathered_from(read_training_file(root / spec.path, spec, limits), spec.path) for spec in files]
    return Gathered([row for one in every for row in one.rows], [bad for one in every for bad in one.refused])


def gathered_from(found: TrainingFile, name: str) -> Gathered:
    """What file `name` held, its bad rows as refused ones."""
    rows = [GatheredRow(row=row, documents=(document,) if document else ()) for row, document in found.rows]
    bad = [Refused(source=f"file:{name}:{row.line}", kind="unusable", reason=row.reason) for row in found.bad]
    return Gathered(rows, bad)


def read_training_file(path: Path, spec: FileSpec, limits: FileLimits) -> TrainingFile:
    """The rows of the file at `path`; `spec.path` names it in sources and messages.

    The file's format is that of most of its rows: a row of another one is a bad row.
    Raises: InputError for a file that is missing, broken as a whole or without a usable row, and for one with more bad
    rows than `limits` let pass, naming them.
    """
    if not path.is_file():
        raise InputError(f"training_data.files: {path} is missing")
    forced = None if spec.format == "auto" else spec.format
    try:
        found = [_read(line, item, spec.path, forced) for line, item in _items(path, spec.path, limits.max_line_bytes)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    counts = Counter(item.format for item in found if item.format)
    if not counts:
        raise InputError(_unrecognised(spec.path, found))
    main = forced or counts.most_common(1)[0][0]
    kept = [FileRow(item.row, item.document) for item in found if item.row and item.format == main]
    bad = [BadRow(line=item.line, reason=item.reason or _other_format(item, main)) for item in found
           if not item.row or item.format != main]  # fmt: skip
    if not kept or len(bad) > limits.max_bad_share * len(found):
        raise InputError(_refusal(spec.path, len(found), bad, limits))
    return TrainingFile(main, kept, bad[:BAD_LISTED], len(bad))


def _read(line: int, item: Fields | str, name: str, forced: Format | None) -> _Read:
    """One item of a file; a text is the reason why it is no row."""
    if isinstance(item, str):
        return _Read(line, reason=item)
    form = forced or format_of(item)
    if form is None:
        names = ", ".join(sorted(item)[:8]) or "none"
        return _Read(line, reason=f"fields of no known format ({names[:200]})")
    try:
        return _Read(line, form, row_of(item, form, f"file:{name}:{line}"), document_of(item))
    except RowError as error:
        return _Read(line, form, reason=str(error))


def _other_format(item: _Read, main: Format) -> str:
    return f"the format changes: this row is {item.format}, the file's are {main}; give it a file of its own"


def _named(name: str, bad: Iterable[BadRow]) -> str:
    return "; ".join(f"{name}:{row.line}: {row.reason}" for row in list(bad)[:_NAMED])


def _unrecognised(name: str, found: list[_Read]) -> str:
    if not found:
        return f"{name}: no row in it"
    reasons = _named(name, [BadRow(line=item.line, reason=item.reason) for item in found])
    return f"{name}: no row of a known format (instruction, chat, preference or completion): {reasons}"


def _refusal(name: str, total: int, bad: list[BadRow], limits: FileLimits) -> str:
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return (
        f"{name}: {len(bad)} of {total} rows cannot be used, training_data.file_limits.max_bad_share lets "
        f"{limits.max_bad_share:.1%} pass: {_named(name, bad)}{more}"
    )


def _items(path: Path, name: str, most: int) -> Iterator[tuple[int, Fields | str]]:
    """(line, object) of every row; a text in an object's place is the reason why there is none."""
    with path.open("rb") as stream:
        begin = stream.read(4096).removeprefix(_BOM).lstrip()
        stream.seek(0)
        if begin.startswith(b"PAR1"):
            yield from _of_parquet(path, name)
        elif begin.startswith(b"["):
            yield from _of_list(stream.read(), name, most)
        elif not begin.startswith(b"{") and _has_header(begin):
            yield from _of_csv(path, most)
        else:
            yield from _of_lines(stream, most)


def _object(value: Any) -> Fields | str:
    return value if isinstance(value, dict) else "no JSON object"


def _of_lines(stream: BinaryIO, most: int) -> Iterator[tuple[int, Fields | str]]:
    """JSON lines. Blank ones are passed over."""
    for number, line in _lines(stream, most):
        if line is None:
            yield number, f"longer than {most} bytes (training_data.file_limits.max_line_bytes)"
        elif text := line.removeprefix(_BOM if number == 1 else b"").strip():
            yield number, _parsed(text)


def _lines(stream: BinaryIO, most: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; None for one that is too long, of which only a part is ever held."""
    number = 0
    while line := stream.readline(most + 1):
        number += 1
        if len(line) <= most or line.endswith(b"\n"):
            yield number, line
            continue
        while (rest := stream.readline(most)) and not rest.endswith(b"\n"):
            pass
        yield number, None


def _parsed(text: bytes) -> Fields | str:
    try:
        return _object(json.loads(text.decode()))
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start})"
    except RecursionError:
        return "not usable JSON: nested too deep"
    except ValueError as error:  # json's own, and Python's for a number of thousands of digits
        return f"not JSON ({error})"


def _of_list(data: bytes, name: str, most: int) -> Iterator[tuple[int, Fields | str]]:
    """A JSON list, item by item, so that each has its line. Raises InputError where the list itself is broken."""
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: a JSON list that is not UTF-8 (byte {error.start})") from error
    decoder, line, last = json.JSONDecoder(), 1, 0
    place = _next(text, _next(text, 0) + 1)
    while text[place : place + 1] != "]":
        line, last = line + text.count("\n", last, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}:{line}: the JSON list breaks off in this item ({error})") from error
        yield line, _object(value) if end - place <= most else f"longer than {most} bytes"
        place = _next(text, end)
        if text[place : place + 1] == ",":
            place = _next(text, place + 1)
        elif text[place : place + 1] != "]":
            raise InputError(f"{name}:{line}: the JSON list has neither a comma nor its end after this item")
    if _next(text, place + 1) != len(text):
        raise InputError(f"{name}:{line}: something stands behind the JSON list")


def _next(text: str, place: int) -> int:
    """The next place that is no white space."""
    found = _WHITE.match(text, place)
    assert found, "white space may be nothing"
    return found.end()


def _has_header(begin: bytes) -> bool:
    """Whether the first line names the columns of a format."""
    try:
        names = next(csv.reader(begin.decode("utf-8", "replace").splitlines()[:1]), [])
    except csv.Error:
        return False
    return format_of(dict.fromkeys(names, "")) is not None


def _of_csv(path: Path, most: int) -> Iterator[tuple[int, Fields | str]]:
    """CSV with a header. Bytes that are no UTF-8 become half characters, which no row may hold."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = csv.DictReader(stream)
        for number in chain([2], _ends(rows)):
            try:
                row: Mapping[Any, Any] = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, f"not CSV ({error})"
                continue
            if None in row:
                yield number, "more cells than the header has"
            elif sum(len(cell or "") for cell in row.values()) > most:
                yield number, f"longer than {most} bytes"
            else:
                yield number, row


def _ends(rows: "csv.DictReader[str]") -> Iterator[int]:
    """The line after the one that was read last, again and again."""
    while True:
        yield rows.line_num + 1


def _of_parquet(path: Path, name: str) -> Iterator[tuple[int, Fields | str]]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{name}: Parquet that cannot be read after row {number} ({str(error)[:200]})") from error
