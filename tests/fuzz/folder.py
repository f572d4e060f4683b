"""Writes a folder of hostile files: damaged copies of whole documents, made ones, and what is no ordinary file."""

import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.bombs import (
    OFFICE,
    Made,
    archive_in_archive,
    deep_office,
    entity_bomb,
    entry,
    huge_numbers,
    locked,
    many_entries,
    pdf_loops,
    replaced,
    zip_bomb,
)
from tests.fuzz.good import GOOD
from tests.fuzz.texts import (
    deep_html,
    encodings,
    front_matter,
    json_lines,
    long_line,
    many_blocks,
    many_marks,
    nothing,
    scripts,
    tables,
)

_PIECES = [
    b"\x00",
    b"\xff" * 8,
    b"<",
    b">",
    b"&",
    b'"',
    b"]]>",
    b"%s%n",
    b"../../x",
    b"\xf0\x9f\x98\x80",
    b"-1",
    b"9" * 20,
    b"endobj",
    b"<<",
    b"[",
    b"\\",
    b"\r",
    b"\x1b[2J",
    b"{",
    b"null",
    b"0 R",
]


def _any(rng: random.Random) -> Made:
    suffix = rng.choice(sorted(GOOD))
    return suffix, GOOD[suffix]


def _truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inserted(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 3, 10])):
        place = rng.randrange(len(data))
        data = data[:place] + rng.choice(_PIECES) * rng.choice([1, 1, 50]) + data[place + rng.choice([0, 0, 5]) :]
    return data


def _repeated(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:end] + data[start:end] * rng.randrange(1, 30) + data[end:]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:start] + data[end:] or b"x"


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "bytes inserted": _inserted,
    "part repeated": _repeated,
    "part cut out": _cut_out,
}


def damaged_inside(rng: random.Random) -> Made:
    """An Office file whose archive is whole, and one or two of its XML files damaged, gone or exchanged."""
    suffix = rng.choice(sorted(OFFICE))
    data = GOOD[suffix]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    for name in rng.choices([OFFICE[suffix], *names], k=rng.choice([1, 2])):
        body = entry(data, name)
        other = entry(data, rng.choice(names))
        damage = rng.choice(list(DAMAGES.values()))
        data = replaced(data, {name: rng.choice([damage(body, rng), damage(body, rng), other, b""]) if body else other})
    return suffix, data


def _renamed(rng: random.Random) -> Made:
    suffix = rng.choice([*sorted(GOOD), ".htm", ".tsv", ".PDF", ".doc", ".png", ".sqlite", "", ".md.exe"])
    return suffix, _any(rng)[1]


MAKERS: dict[str, tuple[Callable[[random.Random], Made], int]] = {
    "zip bomb": (zip_bomb, 1),
    "archive in archive": (archive_in_archive, 3),
    "many entries": (many_entries, 1),
    "entity bomb": (entity_bomb, 4),
    "huge numbers": (huge_numbers, 6),
    "deep office": (deep_office, 4),
    "deep html": (deep_html, 6),
    "many marks": (many_marks, 6),
    "front matter": (front_matter, 8),
    "long line": (long_line, 1),
    "many blocks": (many_blocks, 2),
    "scripts": (scripts, 10),
    "encodings": (encodings, 10),
    "tables": (tables, 8),
    "json lines": (json_lines, 10),
    "pdf loops": (pdf_loops, 10),
    "locked": (locked, 3),
    "nothing": (nothing, 3),
}
"""Kind → its maker and how often it is taken, as a weight."""


def document(kind: str, rng: random.Random) -> Made:
    """A file of one of KINDS."""
    if kind in DAMAGES:
        suffix, data = _any(rng)
        return suffix, DAMAGES[kind](data, rng)
    if kind == "damaged inside":
        return damaged_inside(rng)
    return _renamed(rng) if kind == "renamed" else MAKERS[kind][0](rng)


KINDS: dict[str, int] = {
    **dict.fromkeys(DAMAGES, 40),
    "damaged inside": 60,
    "renamed": 15,
    **{name: item[1] for name, item in MAKERS.items()},
}
"""Kind of file content → weight."""

ODD_NAMES = [
    "new\nline.md",
    "tab\there.md",
    "bell\x07.md",
    "\u202eftp.md",
    "שלום.md",
    "😀.txt",
    "a b  c.md",
    "-rf.md",
    "per%20cent.md",
    "hash#1.md",
    "quote'\".md",
    "semi;colon.md",
    "back\\slash.md",
    "x" * 251 + ".md",
    "é" * 125 + ".md",
    "dot..md",
    " .md",
    "$(id).md",
    "nul%00.md",
    "UPPER.MD",
    "two.md.md",
    "c:colon.md",
    "*.md",
    "[a].md",
    "~.md",
]
ODD_BYTES = [b"latin-\xfc.md", b"\xff\xfe.txt", b"cut-\xe2\x82.csv"]
"""Names that are not UTF-8."""


def write_folder(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Fill `folder` with `count` hostile files, every kind among them, beside `good/`; returns id → kind.

    Ids are as the loader makes them from paths. What is no file by design (folders) is not among them.
    """
    rng = random.Random(seed)  # noqa: S311 - made files, no secret
    written = _strange(folder)
    kinds = list(KINDS)
    kinds += rng.choices(list(KINDS), list(KINDS.values()), k=max(0, count - len(written) - len(kinds)))
    for number, kind in enumerate(kinds):
        suffix, data = document(kind, rng)
        path = folder / f"{number // 500:02}" / f"{number:05}-{kind.replace(' ', '-')}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written[path.relative_to(folder).as_posix()] = kind
    (folder / "good").mkdir()
    for suffix, data in GOOD.items():
        (folder / "good" / f"whole{suffix}").write_bytes(data.replace(b'"line-', b'"whole-'))
    return written


def _strange(folder: Path) -> dict[str, str]:
    """Odd names, links, pipes, and folders with the name of a file."""
    written: dict[str, str] = {}
    names = folder / "names"
    names.mkdir(parents=True)
    for name in [*ODD_NAMES, *(os.fsdecode(name) for name in ODD_BYTES)]:
        (names / name).write_text("# Odd\n\nA text.\n", "utf-8")
        written[f"names/{name}"] = "odd name"
    deep = names.joinpath(*["deeper" * 10] * 20)
    deep.mkdir(parents=True)
    (deep / "deep.md").write_text("Deep.", "utf-8")
    written[(deep / "deep.md").relative_to(folder).as_posix()] = "odd name"
    links = folder / "links"
    (links / "folder.pdf").mkdir(parents=True)
    (folder.parent / "outside.md").write_text("root:x:0:0 outside.", "utf-8")
    targets = {
        "out.md": folder.parent / "outside.md",
        "passwd.txt": Path("/etc/passwd"),
        "zero.txt": Path("/dev/zero"),
        "nowhere.md": folder / "nowhere.md",
        "itself.md": links / "itself.md",
        "ping.md": links / "pong.md",
        "pong.md": links / "ping.md",
        "up": folder,
        "sub.md": links / "folder.pdf",
        "stdin.md": Path("/dev/stdin"),
        "piped.md": links / "pipe.md",
    }
    for name, target in targets.items():
        (links / name).symlink_to(target)
        written[f"links/{name}"] = "link"
    for name in ("pipe.md", "pipe.jsonl", "pipe.pdf"):
        os.mkfifo(links / name)
        written[f"links/{name}"] = "pipe"
    return written
