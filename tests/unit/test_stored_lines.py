"""Rows in a file as a sequence: the same as the rows in memory, and a bad one is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from infra.errors import InputError
from infra.store import StoredLines, read_lines, write_atomic, write_lines


class Row(BaseModel):
    """A row with text that takes more bytes than characters."""

    number: int
    text: str


ROWS = [Row(number=number, text="größer\u2028" * number) for number in range(50)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_lines(tmp_path / "rows.jsonl", iter(ROWS))
    return tmp_path / "rows.jsonl"


def test_it_reads_as_the_list_that_was_written(file: Path) -> None:
    stored = StoredLines(file, Row)
    assert len(stored) == 50
    assert list(stored) == list(read_lines(file, Row)) == ROWS
    assert [stored[place] for place in (0, 49, -1, 7)] == [ROWS[place] for place in (0, 49, -1, 7)]
    assert stored[5:40:7] == ROWS[5:40:7]
    assert b"".join(stored.lines()) == file.read_bytes()
    with pytest.raises(IndexError):
        stored[50]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    write_lines(tmp_path / "none.jsonl", [])
    assert list(StoredLines(tmp_path / "none.jsonl", Row)) == []


def test_a_bad_row_is_named(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], b'{"number": "x", "text": ""}\n', b"\xff\n", *lines[5:]]))
    stored = StoredLines(file, Row)
    for place in (3, 4):
        with pytest.raises(InputError, match=rf"rows\.jsonl:{place + 1}: not a valid Row"):
            stored[place]
    with pytest.raises(InputError, match=r"rows\.jsonl:4: not a valid Row"):
        list(stored)


def test_a_writer_that_fails_leaves_the_old_file(file: Path) -> None:
    def parts() -> Iterator[str]:
        yield "half of it"
        raise KeyboardInterrupt

    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_atomic(file, parts())
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
