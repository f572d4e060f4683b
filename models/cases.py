"""Loads cases from JSON lines, by a mapping of field names, checked with line numbers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from indexes.chunkers.sentences import sentence_spans
from infra.errors import InputError
from infra.settings import Spec
from models.types import Case

HELD_BACK = frozenset({"validation", "gate"})
"""Splits whose documents and cases no training row may come from."""


class CaseFields(Spec):
    """Names of the JSON fields that hold a case. A field that a line lacks keeps its default."""

    id: str = "id"
    """Field with the case's id."""
    question: str = "question"
    """Field with the question."""
    answer: str = "answer"
    """Field with the reference answer."""
    documents: str = "documents"
    """Field with the relevant document ids: a list or one id."""
    evidence: str = "evidence"
    """Field with the verbatim evidence: a list or one text."""
    tags: str = "tags"
    """Field with the tags: a list or one tag."""
    split: str = "split"
    """Field with train, validation or gate."""
    expected: str = "expected"
    """Field with `answer` or `refusal`."""
    forbidden: str = "forbidden"
    """Field with strings that must not be shown."""
    session: str = "session"
    """Field with the session of a traffic line."""


class EvidenceLookup(Spec):
    """Where the evidence stands when the cases only point at it: a paragraph of a document and an offset in it."""

    file: str
    """JSON lines of the documents, relative to the policy file."""
    id: str = "id"
    """Field of the document line with its id."""
    paragraphs: str = "paragraphs"
    """Field of the document line with the list of paragraphs."""
    paragraph: str = "paragraph"
    """Field of the case line with the paragraph's index, from 0."""
    offset: str = "answer_start"
    """Field of the case line with the character where the answer begins."""


class CaseSpec(Spec):
    """Which files hold the cases and how they are read."""

    files: tuple[str, ...] = Field(min_length=1)
    """Files of JSON lines, relative to the policy file."""
    fields: CaseFields = CaseFields()
    """Names of the fields."""
    default_split: str = "gate"
    """Split of a case that names none."""
    lookup: EvidenceLookup | None = None
    """How to find the evidence of cases that only point at it."""

    @property
    def all_files(self) -> tuple[str, ...]:
        """Every file that shapes the cases."""
        return (*self.files, *([self.lookup.file] if self.lookup else []))


def load_cases(spec: CaseSpec, root: Path) -> list[Case]:
    """Cases of all files in their order; `root` is the policy file's folder.

    Raises: InputError naming file and line of the first case that is unreadable, incomplete or contradictory.
    """
    paragraphs = _paragraphs(spec.lookup, root) if spec.lookup else {}
    cases: list[Case] = []
    places: dict[str, str] = {}
    for name in spec.files:
        for place, row in _rows(root / name):
            case = _case(row, spec, paragraphs, place)
            if case.id in places:
                raise InputError(f"{place}: case {case.id!r} stands at {places[case.id]} already; give it another id")
            places[case.id] = place
            cases.append(case)
    if not cases:
        raise InputError(f"{', '.join(spec.files)}: no case in it")
    return cases


def check_splits(cases: list[Case]) -> None:
    """Raise InputError where two splits ask about one document: what was learnt would leak into the gate."""
    splits: dict[str, Case] = {}
    for case in cases:
        for document in case.documents:
            other = splits.setdefault(document, case)
            if other.split != case.split:
                raise InputError(
                    f"{document}: asked about by {other.id} ({other.split}) and {case.id} ({case.split}); "
                    f"move one of them so that no document is in two splits"
                )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of every line."""
    if not path.is_file():
        raise InputError(f"cases.files: {path} is missing")
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InputError(f"{place}: not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{place}: a case must be a JSON object")
            yield place, row


def _case(row: Mapping[str, Any], spec: CaseSpec, paragraphs: Mapping[str, list[str]], place: str) -> Case:
    names = spec.fields.model_dump()
    values = {field: row[name] for field, name in names.items() if row.get(name) is not None}
    for field in ("documents", "evidence", "tags", "forbidden"):
        if isinstance(values.get(field), str):
            values[field] = [values[field]]
    values.setdefault("split", spec.default_split)
    if spec.lookup:
        values["evidence"] = [_evidence(row, values, spec.lookup, paragraphs, place)]
    try:
        case = Case.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{place}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    _check(case, place)
    return case


def _check(case: Case, place: str) -> None:
    if not case.id.strip() or not case.question.strip():
        raise InputError(f"{place}: a case needs an id and a question")
    if case.expected == "answer" and not (case.answer.strip() and case.documents):
        raise InputError(f"{place}: case {case.id!r} expects an answer, so it needs `answer` and `documents`")
    if case.expected == "refusal" and case.answer:
        raise InputError(f"{place}: case {case.id!r} expects a refusal but has an answer; remove one of the two")


def _paragraphs(lookup: EvidenceLookup, root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place, row in _rows(root / lookup.file):
        identity, content = row.get(lookup.id), row.get(lookup.paragraphs)
        if not isinstance(identity, str) or not isinstance(content, list):
            raise InputError(f"{place}: fields {lookup.id!r} and {lookup.paragraphs!r} must hold an id and a list")
        found[identity] = [str(paragraph) for paragraph in content]
    return found


def _evidence(
    row: Mapping[str, Any],
    values: Mapping[str, Any],
    lookup: EvidenceLookup,
    paragraphs: Mapping[str, list[str]],
    place: str,
) -> str:
    """The sentence in which the answer begins."""
    document = (values.get("documents") or [""])[0]
    index, offset = row.get(lookup.paragraph), row.get(lookup.offset)
    texts = paragraphs.get(document, [])
    if not isinstance(index, int) or not isinstance(offset, int) or not 0 <= index < len(texts):
        raise InputError(f"{place}: {document!r} has no paragraph {index!r}; check `{lookup.paragraph}`")
    text = texts[index]
    for start, end in sentence_spans(text, 0, len(text)):
        if start <= offset < end:
            return text[start:end]
    raise InputError(f"{place}: the paragraph has no character {offset}; check `{lookup.offset}`")
