"""JSON-lines reader: every line is a document, by a mapping of field names."""

import json
from collections.abc import Iterator
from pathlib import Path

from indexes.loaders.extracted import Extracted, TextBuilder, fold, humanize
from indexes.loaders.spec import JsonlFields
from infra.errors import InputError
from infra.store import value_digest


def read_jsonl(path: Path, fields: JsonlFields, file: str) -> Iterator[tuple[str, str, Extracted | InputError]]:
    """Yield (id, digest, text or what is wrong) for every line; a line without an id is named `file:line`."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            name = f"{file}:{number}"
            try:
                row = _row(line)
                identity = row.get(fields.id)
                if not isinstance(identity, str | int) or not str(identity).strip():
                    raise InputError(f"field {fields.id!r} must hold the document's id")
                name = str(identity)
                yield name, value_digest(row), _extract(row, fields)
            except InputError as error:
                yield name, "", error


def _row(line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError("a line must be a JSON object")
    return row


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
