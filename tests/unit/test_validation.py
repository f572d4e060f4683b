"""Suites pass what is good, name the rows that are not, and write pages that need no network."""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from indexes.expectations import ValidationReport
from indexes.types import Chunk, Document
from indexes.validation import Levels, ValidationSpec, damaged_share, validate_chunks, validate_documents

SPEC = ValidationSpec(usual_min_characters=20, max_duplicate_share=0.1, max_chunk_tokens=50, languages=("en", "pt-BR"))
WARNED = Levels.model_validate(dict.fromkeys(Levels.model_fields, "warning"))


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
        (
            {"text": "The fee is 4 \ufffd a month, and so on. " + "x" * 400},
            "broken_characters: column values to be between",
        ),
        ({"text": "L’été".encode().decode("cp1252") + " says a tariff."}, "damaged_share: column values to be between"),
        ({"language": "und"}, "language: column values to not be null"),
        ({"language": ""}, "language: column values to not be null"),
        ({"language": "cs"}, "language: column values to be in set"),
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


def today(days: int) -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=days)


def test_a_date_may_be_as_far_ahead_as_the_policy_says(tmp_path: Path) -> None:
    ahead = [document(70, date=today(1)), document(71, date=today(3))]
    (failure,) = documents_report(ahead, tmp_path).failures
    assert failure.rows == ("d71.md",)
    assert validate_documents(ahead, SPEC.model_copy(update={"max_future_days": 3}), tmp_path).success


def test_a_level_makes_a_broken_bound_a_warning(tmp_path: Path) -> None:
    long = SPEC.model_copy(update={"levels": WARNED, "max_characters": 600})
    bad = [
        document(80, date=today(9)),
        document(81, language="cs"),
        document(82, text="\ufffd" * 30),
        document(83, text="A long one. " * 60),
    ]
    report = validate_documents(bad, long, tmp_path)
    assert report.success
    told = {warning.expectation.split(":")[0]: warning.rows for warning in report.warnings}
    assert told == {
        "date": ("d80.md",),
        "language": ("d81.md",),
        "broken_characters": ("d82.md",),
        "damaged_share": ("d82.md",),
        "characters": ("d83.md",),
    }
    chunks = validate_chunks([chunk(1, tokens=51), chunk(2)], long, tmp_path)
    assert chunks.success
    assert [(warning.expectation.split(":")[0], warning.rows) for warning in chunks.warnings] == [("tokens", ("c1",))]


def test_ids_texts_and_labels_are_errors_whatever_the_levels_say(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"levels": WARNED})
    bad = [document(1, access=()), document(2), document(2, text="Another text with the id of a document.")]
    report = validate_documents([*bad, document(3, text=" ")], spec, tmp_path)
    broken = {failure.expectation.split(":")[0]: failure.rows for failure in report.failures}
    assert broken == {"labels": ("d1.md",), "id": ("d2.md", "d2.md"), "characters": ("d3.md",)}


@pytest.mark.parametrize(
    ("share", "level", "success"), [(0.3, "error", True), (0.1, "error", False), (0.1, "warning", True)]
)
def test_documents_with_personal_data_are_named_when_they_are_too_many(
    share: float, level: str, success: bool, tmp_path: Path
) -> None:
    levels = Levels.model_validate({"personal": level})
    spec = SPEC.model_copy(update={"max_personal_share": share, "levels": levels})
    documents = [document(number, text=f"Number {number}: write to {'@' * (number < 2)} us.") for number in range(10)]
    report = validate_documents(documents, spec, tmp_path, personal=lambda text: text.count("@"))
    assert report.success is success
    named = [finding.rows for finding in (*report.failures, *report.warnings)]
    assert named == ([] if share == 0.3 else [("d0.md", "d1.md")])


def test_personal_data_cannot_be_asked_for_without_a_finder(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing finds personal data"):
        validate_documents([document(1)], ValidationSpec(max_personal_share=0.1), tmp_path)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("word", ["café", "Größe", "naïve", "£20", "20 °C", "It’s", "a – b", "€5", "señor", "“x”"])
def test_misread_words_are_damage_and_the_words_themselves_are_not(word: str, encoding: str) -> None:
    misread = word.encode().decode(encoding, errors="ignore")
    assert damaged_share(misread) > 0, misread
    assert damaged_share(word) == 0


def test_capital_letters_with_accents_are_no_damage() -> None:
    assert damaged_share("SÃO JOÃO, MANHÃ, ROMÂNIA, ÂME, «CAFÉ», „Spaß“, 20 ¢, 3 × 4, ©, Ångström") == 0
    assert damaged_share("") == 0
    assert damaged_share("ab\ufffd\ufffd") == 0.5


@pytest.mark.parametrize("level", ["warning", "error"])
def test_many_repeated_chunks_are_as_grave_as_their_level(tmp_path: Path, level: str) -> None:
    same = [chunk(number, text="Print this page.") for number in range(3)]
    spec = SPEC.model_copy(update={"levels": SPEC.levels.model_copy(update={"repeated_chunks": level})})
    report = validate_chunks([*same, *(chunk(number) for number in range(3, 12))], spec, tmp_path)
    assert report.success == (level == "warning")
    found = report.warnings if level == "warning" else report.failures
    assert ("copies", {"c0", "c1", "c2"}) in [(one.expectation.split(":")[0], set(one.rows)) for one in found]


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
