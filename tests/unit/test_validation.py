"""Suites pass what is good, name the rows that are not, and write pages that need no network."""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from indexes.types import Chunk, Document
from indexes.validation import ValidationReport, ValidationSpec, validate_chunks, validate_documents

SPEC = ValidationSpec(usual_min_characters=20, max_duplicate_share=0.1, max_chunk_tokens=50)


def document(number: int, **values: object) -> Document:
    row = {
        "id": f"d{number}.md",
        "title": f"Title {number}",
        "text": f"Document number {number} says something of its own.",
        "media": "markdown",
        "digest": "x",
        "date": datetime.date(2026, 1, 1),
    }
    return Document.model_validate(row | values)


def chunk(number: int, **values: object) -> Chunk:
    row = {
        "id": f"c{number}",
        "document": "d.md",
        "title": "T",
        "text": f"Chunk number {number}.",
        "start": 0,
        "end": 20,
        "tokens": 12,
    }
    return Chunk.model_validate(row | values)


def documents_report(changed: Sequence[Document], folder: Path) -> ValidationReport:
    return validate_documents([*(document(number) for number in range(20)), *changed], SPEC, folder)


def test_good_documents_pass_and_pages_open_without_a_network(tmp_path: Path) -> None:
    report = documents_report([], tmp_path)
    assert report.success
    assert (report.failures, report.warnings) == ((), ())
    assert report.expectations >= 10
    assert (tmp_path / report.data_docs).is_file()
    assert f'href="{report.data_docs}"' in (tmp_path / "index.html").read_text("utf-8")
    for page in tmp_path.rglob("*.html"):
        assert not re.search(r"(src|href)=[\"']https?://|url\([\"']?https?://", page.read_text("utf-8")), page


@pytest.mark.parametrize(
    ("values", "expectation"),
    [
        ({"id": "d3.md", "text": "Another text under an id that is taken."}, "id: column values to be unique"),
        ({"text": "  "}, "characters: column values to be between"),
        ({"access": ()}, "labels: column values to be between"),
        ({"title": " "}, "title_characters: column values to be between"),
        ({"date": datetime.date(2999, 1, 1)}, "date: column values to be between"),
        ({"date": datetime.date(1899, 1, 1)}, "date: column values to be between"),
        ({"text": "The fee is 4 \ufffd a month, and so on."}, "broken_characters: column values to be between"),
    ],
)
def test_each_fault_of_a_document_fails_and_is_named(
    values: dict[str, object], expectation: str, tmp_path: Path
) -> None:
    bad = document(99, **values)
    report = documents_report([bad], tmp_path)
    assert not report.success
    (failure,) = report.failures
    assert failure.expectation.startswith(expectation)
    assert bad.id in failure.rows


def test_duplicates_warn_first_and_fail_when_they_are_many(tmp_path: Path) -> None:
    copies = [document(30 + number, text=document(number).text.upper()) for number in range(4)]
    few = documents_report(copies[:1], tmp_path)
    assert few.success
    assert set(few.warnings[0].rows) == {"d0.md", "d30.md"}
    assert not documents_report(copies, tmp_path).success


def test_short_and_undated_documents_are_warnings(tmp_path: Path) -> None:
    report = documents_report([document(50, text="Short.", date=None), document(51, text="Row", media="sql")], tmp_path)
    assert report.success
    assert [warning.rows for warning in report.warnings] == [("d50.md",), ("d50.md",)]


@pytest.mark.parametrize(
    ("values", "expectation"),
    [
        ({"id": "c3"}, "id"),
        ({"tokens": 51}, "tokens"),
        ({"text": " "}, "characters"),
        ({"access": ()}, "labels"),
        ({"start": 20}, "end"),
    ],
)
def test_each_fault_of_a_chunk_fails_and_is_named(values: dict[str, object], expectation: str, tmp_path: Path) -> None:
    bad = chunk(99, **values)
    report = validate_chunks([*(chunk(number) for number in range(20)), bad], SPEC, tmp_path)
    assert [failure.expectation.split(":")[0] for failure in report.failures] == [expectation]
    assert bad.id in report.failures[0].rows


def test_nothing_at_all_fails(tmp_path: Path) -> None:
    assert not validate_documents([], SPEC, tmp_path).success
    assert not validate_chunks([], SPEC, tmp_path).success


def test_pages_hold_no_text_of_the_documents(tmp_path: Path) -> None:
    documents_report([document(60, text="private 555-0134 " * 3), document(61, text="x")], tmp_path)
    assert not any("555-0134" in page.read_text("utf-8") for page in tmp_path.rglob("*.html"))
