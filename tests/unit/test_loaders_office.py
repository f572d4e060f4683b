"""PowerPoint and Excel files become sections, lines and rows; archives that unpack to too much are never opened."""

import datetime
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.loaders import archive
from indexes.loaders.archive import check_office
from indexes.loaders.corpus import load_corpus
from indexes.loaders.extracted import fold
from indexes.loaders.pptx import read_pptx
from indexes.loaders.spec import CorpusSpec
from indexes.loaders.xlsx import read_xlsx
from infra.errors import InputError
from tests.unit.documents import docx_bytes, pptx_bytes, with_entry, xlsx_bytes
from tests.unit.test_loaders import section_texts

ROWS: list[list[object]] = [
    ["zone", "price", "share", "since", "open"],
    ["Dunmere", 1.97, 0.075, datetime.datetime(2026, 1, 5), True],
    [None, None, None, None, None],
    ["Tarnholt\nEast", 2, 1, datetime.datetime(2026, 1, 5, 13, 30), None],
]


def test_slides_are_sections_with_lists_tables_groups_and_notes() -> None:
    found = read_pptx(pptx_bytes())
    assert found.title == "Water works"
    assert section_texts(found) == {
        "slide 1": "Spring meeting",
        "Prices (slide 2)": (
            "- Paid monthly\n  - By transfer\n\nzone: Dunmere; price: 1.97; price: 2.10\nzone: Tarnholt\n\n"
            "From a group.\n\nSay that prices rise."
        ),
        "Steps (slide 3)": "1. Close the valve.\n2. Read the meter.",
        "Questions? (slide 4)": "Questions?",
    }


def test_a_hidden_slide_is_not_shown() -> None:
    assert "Salaries" not in read_pptx(pptx_bytes()).model_dump_json()


def test_sheets_are_sections_and_rows_repeat_the_columns() -> None:
    found = read_xlsx(xlsx_bytes({"Prices": ROWS, "Notes": [["Call first."]]}, title="Price list"))
    assert found.title == "Price list"
    assert section_texts(found) == {
        "Prices": (
            "zone: Dunmere; price: 1.97; share: 7.5%; since: 2026-01-05; open: TRUE\n"
            "zone: Tarnholt East; price: 2; share: 100%; since: 2026-01-05 13:30:00"
        ),
        "Notes": "Call first.",
    }


def test_a_hidden_sheet_is_not_shown() -> None:
    found = read_xlsx(xlsx_bytes({"Open": [["a"], ["b"]], "Pay": [["name"], ["secret"]]}, hidden=["Pay"]))
    assert section_texts(found) == {"Open": "a: b"}


def test_the_size_that_a_sheet_states_is_not_believed() -> None:
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(xlsx_bytes({"s": [["a", "b"], ["1", "2"]]}))) as source,
        zipfile.ZipFile(written, "w") as target,
    ):
        for name in source.namelist():
            data = source.read(name)
            assert name != "xl/worksheets/sheet1.xml" or b'<dimension ref="A1:B2"' in data
            target.writestr(name, data.replace(b'<dimension ref="A1:B2"', b'<dimension ref="A1"'))
    assert read_xlsx(written.getvalue()).text == "a: 1; b: 2"


CELLS: st.SearchStrategy[object] = st.one_of(
    st.integers(-(10**9), 10**9), st.text("abc é😀אב", min_size=1).filter(fold)
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=2, max_size=5))
def test_no_cell_of_a_sheet_is_lost(rows: list[list[object]]) -> None:
    text = read_xlsx(xlsx_bytes({"s": rows})).text
    for row in rows[1:]:
        for cell in row:
            assert fold(str(cell)) in text


def test_files_are_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "spring-deck.pptx").write_bytes(pptx_bytes())
    (tmp_path / "docs" / "price-list.xlsx").write_bytes(xlsx_bytes({"Prices": ROWS}))
    (tmp_path / "docs" / "note.txt").write_text("1. One.\n2. Two.\n\nPlain\nwords.", "utf-8")
    found = load_corpus(CorpusSpec(documents="docs"), tmp_path)
    assert [(item.id, item.media, item.title) for item in found.documents] == [
        ("note.txt", "text", "Note"),
        ("price-list.xlsx", "xlsx", "Price list"),
        ("spring-deck.pptx", "pptx", "Water works"),
    ]
    assert found.documents[0].text == "1. One.\n2. Two.\n\nPlain words."
    assert found.quarantined == []


def test_an_ordinary_file_passes_and_one_over_a_limit_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    data = docx_bytes("T", [["a"], ["b"]])
    check_office(data, ".docx", "Word document")
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        unpacked = sum(entry.file_size for entry in opened.infolist())
        entries = len(opened.infolist())
    monkeypatch.setattr(archive, "UNPACKED_LIMIT", unpacked)
    monkeypatch.setattr(archive, "ENTRIES_LIMIT", entries)
    check_office(data, ".docx", "Word document")
    with pytest.raises(InputError, match="unpacks to more than"):
        check_office(with_entry(data, "word/more.xml", b"x"), ".docx", "Word document")
    monkeypatch.setattr(archive, "ENTRIES_LIMIT", entries + 1)
    with pytest.raises(InputError, match="unpacks to more than"):
        check_office(with_entry(data, "word/more.xml", b"x"), ".docx", "Word document")


def test_an_encrypted_entry_is_a_password() -> None:
    data = bytearray(xlsx_bytes({"s": [["a"], ["b"]]}))
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    with pytest.raises(InputError, match="without a password"):
        check_office(bytes(data), ".xlsx", "workbook")
