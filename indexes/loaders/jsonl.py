"""JSON-lines reader: every line is a document, by a mapping of field names."""

import json
from collections.abc import Iterator
from pathlib import Path

from indexes.loaders.extracted import Extracted, TextBuilder, decode, fold, humanize
from indexes.loaders.ordinary import check_name
from indexes.loaders.spec import JsonlFields
from infra.errors import InputError
from infra.store import value_digest


def read_jsonl(path: Path, fields: JsonlFields, file: str) -> Iterator[tuple[str, str, Extracted | InputError]]:
    """Yield (id, digest, text or what is wrong) for every line; a line without an id is named `file:line`.

    A file without any line is one such error, named as the file.
    """
    empty = True
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            empty = False
            name = f"{file}:{number}"
            try:
                row, digest = _row(line)
                name = _identity(row, fields)
                yield name, digest, _extract(row, fields)
            except InputError as error:
                yield name, "", error
    if empty:
        yield file, "", InputError("no line in it")


def _row(line: bytes) -> tuple[dict[str, object], str]:
    """The object of a line and its digest."""
    try:
        row = json.loads(decode(line))
        digest = value_digest(row)
    except UnicodeEncodeError as error:
        raise InputError("holds half a character (\\ud800 to \\udfff alone): write its text anew") from error
    except RecursionError as error:
        raise InputError("nested too deeply: a line holds one flat object") from error
    except ValueError as error:  # also numbers of thousands of digits
        raise InputError(f"not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError("a line must be a JSON object")
    return row, digest


def _identity(row: dict[str, object], fields: JsonlFields) -> str:
    identity = row.get(fields.id)
    if isinstance(identity, bool) or not isinstance(identity, str | int) or not str(identity).strip():
        raise InputError(f"field {fields.id!r} must hold the document's id")
    check_name(str(identity))
    return str(identity)


def _extract(row: dict[str, object], fields: JsonlFields) -> Extracted:
    content = row.get(fields.text)
    paragraphs = [content] if isinstance(content, str) else content
    if not isinstance(paragraphs, list) or not all(isinstance(item, str) for item in paragraphs):
        raise InputError(f"field {fields.text!r} must hold a text or a list of paragraphs")
    builder = TextBuilder()
    for paragraph in paragraphs:
        if fields.paragraph_sections:
            builder.section("")
        builder.paragraph(paragraph)
    result = builder.build()
    if not result.text:
        raise InputError("no text in it")
    return result.model_copy(update={"title": fold(humanize(str(row.get(fields.title) or "")))})
