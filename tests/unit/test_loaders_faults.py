"""Bad documents are quarantined with a reason; the rest goes on."""

import os
from pathlib import Path

import pytest

from indexes.loaders.corpus import load_corpus
from indexes.loaders.isolated import IsolatedReader
from indexes.loaders.spec import CorpusSpec
from infra.errors import InputError
from tests.unit.documents import docx_bytes, pdf_bytes, pdf_paragraphs, pptx_bytes, with_entry, xlsx_bytes

WORD = docx_bytes("T", [["a"], ["b"]])
DECK = pptx_bytes()
SHEETS = xlsx_bytes({"s": [["a"], ["b"]]})
OLE = b"\xd0\xcf\x11\xe0" + b"\x00" * 600
ZEROS = b"\x00" * 20_000_000


FAULTS: dict[str, tuple[bytes, str]] = {
    "zero.md": (b"", "zero bytes"),
    "blank.md": (b"  \n\n", "no text"),
    "latin.md": ("Gebühr".encode("latin-1"), "not valid utf-8 at byte 3"),
    "binary.txt": (b"abc\x00def", "NUL"),
    "matter.md": (b"---\na: [\n---\ntext", "front matter"),
    "broken.pdf": (b"%PDF-1.4\nnothing of it", "damaged PDF"),
    "locked.pdf": (pdf_bytes([pdf_paragraphs(["Secret."])], password="pw"), "encrypted"),
    "picture.pdf": (pdf_bytes([[]]), "no text layer"),
    "broken.docx": (b"PK\x03\x04 not a zip", "damaged Word"),
    "locked.docx": (OLE, "encrypted or an old .doc file"),
    "macro.docx": (with_entry(WORD, "word/vbaProject.bin", b"x"), "save it as .docx without them"),
    "macro.docm": (b"x", "macros"),
    "bomb.docx": (with_entry(WORD, "word/media/a.xml", ZEROS), "decompression bomb"),
    "broken.pptx": (b"PK\x03\x04 not a zip", "damaged presentation"),
    "locked.pptx": (OLE, "encrypted or an old .ppt file"),
    "macro.pptx": (with_entry(DECK, "ppt/vbaProject.bin", b"x"), "save it as .pptx without them"),
    "macro.pptm": (b"x", "save it as .pptx"),
    "bomb.pptx": (with_entry(DECK, "ppt/slides/a.xml", ZEROS), "decompression bomb"),
    "sheets.pptx": (SHEETS, "no presentation"),
    "broken.xlsx": (SHEETS[:-40], "damaged workbook"),
    "locked.xlsx": (OLE, "encrypted or an old .xls file"),
    "macro.xlsx": (with_entry(SHEETS, "xl/vbaProject.bin", b"x"), "save it as .xlsx without them"),
    "oldmacro.xlsx": (with_entry(SHEETS, "xl/macrosheets/sheet1.xml", b"x"), "macros"),
    "macro.xlsm": (b"x", "save it as .xlsx"),
    "bomb.xlsx": (with_entry(SHEETS, "xl/worksheets/a.xml", ZEROS), "decompression bomb"),
    "deck.xlsx": (DECK, "no workbook"),
    "empty.xlsx": (xlsx_bytes({"s": []}), "no text"),
    "old.xls": (OLE, "an old Excel file: save it as .xlsx"),
    "ragged.csv": (b"a,b\n1,2,3\n", "row 2 has 3 fields"),
    "empty.html": (b"<html><body><nav>x</nav></body></html>", "no text"),
    "charset.html": (b"<meta charset=klingon><p>x</p>", "unknown encoding"),
    "german.html": (b"<html lang=de><body><p>Wasser</p></body></html>", "language 'de'"),
    "huge.txt": (b"", "more than the limit"),
    "image.png": (b"\x89PNG", "format .png"),
    "base.sqlite": (b"x", "corpus.sql"),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("corpus") / "docs"
    folder.mkdir()
    (folder.parent / "outside.md").write_text("Outside.", "utf-8")
    for name, (data, _) in FAULTS.items():
        (folder / name).write_bytes(data)
    (folder / "linked.md").symlink_to(folder.parent / "outside.md")
    (folder / "dangling.md").symlink_to(folder / "nowhere.md")
    (folder / "good.md").write_text("# Good\n\nStill here.", "utf-8")
    (folder / ".hidden.md").write_text("Hidden.", "utf-8")
    spec = CorpusSpec(documents="docs", max_bytes=200_000)
    (folder / "huge.txt").write_bytes(b"x" * 200_001)
    table = {"url": "sqlite:///base.sqlite", "table": "t", "key": "id"}
    found = load_corpus(spec, folder.parent)
    assert [document.id for document in found.documents] == ["good.md"]
    with_table = load_corpus(CorpusSpec.model_validate({**spec.model_dump(), "sql": [table]}), folder.parent)
    reasons = {item.id: item.reason for item in with_table.quarantined if "#" in item.id}
    return {item.id: item.reason for item in found.quarantined} | reasons


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_fault_is_quarantined_with_its_reason(loaded: dict[str, str], name: str) -> None:
    assert FAULTS[name][1] in loaded[name]


def test_links_out_of_the_folder_and_into_nothing_are_refused(loaded: dict[str, str]) -> None:
    assert "link out of" in loaded["linked.md"]
    assert "link to no file" in loaded["dangling.md"]


def test_a_database_that_is_none_is_quarantined(loaded: dict[str, str]) -> None:
    assert "not a SQLite file" in loaded["base.sqlite#t"]


def test_a_damaged_database_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "good.md").write_text("Fine.", "utf-8")
    (tmp_path / "docs" / "bad.sqlite").write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    table = {"url": "sqlite:///bad.sqlite", "table": "t", "key": "id"}
    found = load_corpus(CorpusSpec.model_validate({"documents": "docs", "sql": [table]}), tmp_path)
    assert [item.id for item in found.quarantined] == ["bad.sqlite#t"]
    assert "cannot be read" in found.quarantined[0].reason


def test_nothing_is_lost_or_counted_twice(loaded: dict[str, str]) -> None:
    assert set(loaded) == {*FAULTS, "linked.md", "dangling.md", "base.sqlite#t"}


def test_a_folder_with_bad_documents_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "zero.md").write_bytes(b"")
    with pytest.raises(InputError, match=r"no usable document \(zero\.md: empty"):
        load_corpus(CorpusSpec(documents="docs"), tmp_path)


def test_a_document_that_takes_too_long_costs_only_itself(tmp_path: Path) -> None:
    slow, good = tmp_path / "slow.md", tmp_path / "good.md"
    os.mkfifo(slow)  # reading it never ends
    good.write_text("Fine.", "utf-8")
    with IsolatedReader(seconds=5, memory_mb=4096, characters=10**6) as reader:
        assert reader.read(good, "").text == "Fine."
        with pytest.raises(InputError, match="longer than"):
            reader.read(slow, "")
        assert reader.read(good, "").text == "Fine."


def test_a_document_that_takes_all_memory_costs_only_itself(tmp_path: Path) -> None:
    big, good = tmp_path / "big.txt", tmp_path / "good.txt"
    big.write_bytes(b"word " * 60_000_000)
    good.write_text("Fine.", "utf-8")
    with IsolatedReader(seconds=60, memory_mb=512, characters=10**9) as reader:
        with pytest.raises(InputError, match="needs more than 512 MiB"):
            reader.read(big, "")
        assert reader.read(good, "").text == "Fine."
