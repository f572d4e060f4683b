"""Two hundred hostile files: each is loaded or refused by name, and the whole documents among them load unharmed.

`python -m tests.fuzz --files 5000 --seed 2` does the same with more files.
"""

import os
import signal
import threading
from pathlib import Path

import pytest

from indexes.loaders.corpus import load_corpus
from indexes.loaders.extracted import TextBuilder, decode
from indexes.loaders.html import read_html
from indexes.loaders.isolated import IsolatedReader
from indexes.loaders.markdown import read_markdown
from indexes.loaders.spec import CorpusSpec
from infra.errors import InputError
from infra.store import folder_manifest, value_digest
from tests.fuzz.folder import KINDS, write_folder
from tests.fuzz.judge import judge


def test_hostile_files_are_loaded_or_named_and_harm_nothing(tmp_path: Path) -> None:
    written = write_folder(tmp_path / "docs", 200, seed=7)
    outcome = judge(tmp_path, written)
    assert outcome.faults == []
    assert {kind for kind, _ in outcome.counts} == {*KINDS, "odd name", "link", "pipe"}
    loaded = sum(count for (_, result), count in outcome.counts.items() if result == "loaded")
    assert 40 < loaded < 160, "some files can be read and some cannot: otherwise this tests little"


def test_names_that_cannot_be_shown_are_refused_and_written_out(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in (b"latin-\xfc.md", b"two\nlines.md", b"good.md"):
        (docs / name.decode("utf-8", "surrogateescape")).write_text("Text.", "utf-8")
    before = value_digest(folder_manifest("source", docs))
    (docs / os.fsdecode(b"latin-\xfc.md")).write_text("Other.", "utf-8")
    assert value_digest(folder_manifest("source", docs)) != before, "the key of the stage that reads them"
    found = load_corpus(CorpusSpec(documents="docs"), tmp_path)
    assert [document.id for document in found.documents] == ["good.md"]
    assert [item.id for item in found.quarantined] == [r"latin-\udcfc.md", r"two\nlines.md"]
    assert {item.reason for item in found.quarantined} == {
        "its name holds control characters or is not UTF-8: rename it"
    }


def test_links_in_a_circle_and_pipes_are_refused(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "good.md").write_text("Text.", "utf-8")
    (docs / "ping.md").symlink_to(docs / "pong.md")
    (docs / "pong.md").symlink_to(docs / "ping.md")
    os.mkfifo(docs / "pipe.jsonl")  # opening it would wait for ever
    found = load_corpus(CorpusSpec(documents="docs"), tmp_path)
    assert {item.id: item.reason.split(":")[0] for item in found.quarantined} == {
        "ping.md": "a link to no file",
        "pong.md": "a link to no file",
        "pipe.jsonl": "not an ordinary file, but a folder, pipe, socket or device",
    }


LINES = {
    "deep": (b"[" * 100_000, "nested too deeply"),
    "digits": (b'{"id": %s, "text": "x"}' % (b"9" * 5_000), "not valid JSON"),
    "half": (rb'{"id": "a", "text": "\ud800"}', "half a character"),
    "truth": (b'{"id": true, "text": "x"}', "must hold the document's id"),
    "control": (rb'{"id": "a\u0000b", "text": "x"}', "control characters"),
    "endless": (b'{"id": "%s", "text": "x"}' % (b"i" * 5_000), "more than 1000 characters"),
    "blank": (b"\n  \n", "no line in it"),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_that_no_parser_likes(tmp_path: Path, name: str) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    data, reason = LINES[name]
    (tmp_path / "docs" / "sub" / "set.jsonl").write_bytes(data)
    (tmp_path / "docs" / "good.md").write_text("Text.", "utf-8")
    (item,) = load_corpus(CorpusSpec(documents="docs"), tmp_path).quarantined
    assert item.id == ("sub/set.jsonl" if name == "blank" else "sub/set.jsonl:1")
    assert reason in item.reason


@pytest.mark.parametrize(
    ("matter", "reason"),
    [
        ("date: 2026-13-45", "month must be"),
        ("title: [a, b]", "title must be one line"),
        ("access: {a: b}", "access must be one line"),
        ('access: ["\\0"]', "access must be one line"),
        (f"title: {'[' * 1_500}", "front matter is not valid YAML"),
    ],
)
def test_front_matter_that_is_no_text_is_refused(matter: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_markdown(f"---\n{matter}\n---\ntext".encode())


def test_controls_and_half_characters_never_reach_a_text() -> None:
    builder = TextBuilder()
    builder.heading(1, "T\x00i\x1bt")
    builder.heading(2, "S\ud800ec\ntion")
    builder.paragraph("a\x00b\x0cc\x85d")
    builder.lines(["r\x07ow", "\x00"])
    builder.code("x\x0cy\n\tz\r")
    builder.paragraph("\x01")
    found = builder.build()
    assert (found.title, found.text) == ("Tit", "ab c d\n\nrow\n\n```\nxy\n\tz\n```")
    assert found.sections == ((0, "Sec tion"),)


def test_a_page_is_read_whole_or_refused() -> None:
    def page(levels: int) -> bytes:
        return f"<p>Before.</p>{'<div>' * levels}In it.{'</div>' * levels}<p>After.".encode()

    assert read_html(page(400)).text == "Before.\n\nIn it.\n\nAfter."
    with pytest.raises(InputError, match="nested too deeply"):
        read_html(page(5_000))
    long = b"<p>Before.</p><img src='data:%s'><p>After." % (b"A" * 11_000_000)
    assert read_html(long).text == "Before.\n\nAfter."


@pytest.mark.parametrize("number", ["9" * 5_000, "²", "-1", "0x7"])
def test_numbers_of_a_page_that_are_none_count_as_one(number: str) -> None:
    page = f"<table><tr><th colspan={number}>a<th>b<tr><td>1<td>2</table><ol start={number}><li>x</ol>"
    assert read_html(page.encode()).text == "a: 1; b: 2\n\n1. x"


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined"])
def test_encodings_that_are_none_for_pages_are_an_input_error(charset: str) -> None:
    with pytest.raises(InputError, match="save the document as UTF-8"):
        decode(rb"a\ud800 \xff" + b"." * 70 + b"\xff", charset)


def test_what_stops_a_reader_names_no_insides_of_the_program(tmp_path: Path) -> None:
    deep = tmp_path / "deep.html"
    deep.write_bytes(b"<div>" * 1_500 + b"x")
    (tmp_path / "good.md").write_text("Fine.", "utf-8")
    with IsolatedReader(seconds=60, memory_mb=4096, characters=20) as reader:
        with pytest.raises(InputError, match="nested too deeply: simplify it"):
            reader.read(deep, "")
        assert reader.read(tmp_path / "good.md", "").text == "Fine."


def test_a_killed_reader_is_said_in_words(tmp_path: Path) -> None:
    slow = tmp_path / "slow.md"
    os.mkfifo(slow)
    with IsolatedReader(seconds=60, memory_mb=4096, characters=20) as reader:
        process = reader._started()

        def kill() -> None:
            with slow.open("w"):  # waits until the reader has opened it
                process.send_signal(signal.SIGSEGV)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(InputError, match="stops its reader"):
            reader.read(slow, "")
        killer.join()


def test_headings_count_as_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# T\n\n## {'h' * 200}\n\na\n\n### s\n\nb\n", "utf-8")
    with (
        IsolatedReader(seconds=60, memory_mb=4096, characters=300) as reader,
        pytest.raises(InputError, match="more than 300 characters"),
    ):
        reader.read(page, "")
