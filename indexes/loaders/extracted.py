"""Plain text with sections, as every format reader hands it on, and the builder that lays it out.

Layout of a text: paragraphs are parted by one empty line; table rows and list items take one line each; code stands
between lines of three backticks. Headings are not in the text but in `sections`.
"""

import codecs
import datetime
import re
from collections.abc import Iterable, Sequence

from infra.errors import InputError
from infra.settings import Spec

FENCE = "```"
_GAP = "\n\n"
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
"""Controls and half characters, which databases and JSON refuse; without the controls that part words."""
_UNSEEN_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""The same for text whose white space is kept: only tab and line feed stay."""


class Extracted(Spec):
    """What a reader found in one document."""

    text: str
    title: str = ""
    """Title that the document itself states."""
    sections: tuple[tuple[int, str], ...] = ()
    language: str = ""
    date: datetime.date | None = None
    access: tuple[str, ...] = ()
    supersedes: str | None = None


class TextBuilder:
    """Collects headings and blocks in reading order and lays them out as one text."""

    def __init__(self) -> None:
        self.title = ""
        self._blocks: list[str] = []
        self._length = 0
        self._sections: list[tuple[int, str]] = []
        self._path: list[tuple[int, str]] = []
        self._open = False

    def heading(self, level: int, text: str) -> None:
        """A heading; the first one of level 1 before any other becomes the title."""
        folded = fold(text)
        if not folded:
            return
        if level == 1 and not self.title and not self._blocks and not self._path:
            self.title = folded
            return
        self._path = [item for item in self._path if item[0] < level]
        self._path.append((level, folded))
        self._open = False

    def section(self, heading: str) -> None:
        """Start a section that is not nested, such as a page or a bare paragraph."""
        self._path = [(1, heading)]
        self._open = False

    def paragraph(self, text: str) -> None:
        """Flowing text; line breaks inside are folded."""
        self._block(fold(text))

    def lines(self, rows: Iterable[str]) -> None:
        """Rows of a table or items of a list, one line each."""
        self._block("\n".join(row for row in map(_seen, rows) if row))

    def code(self, text: str, info: str = "") -> None:
        """Code, kept verbatim between fences."""
        shown = _seen(text).rstrip()
        if shown.strip():
            self._block(f"{FENCE}{_seen(info)}\n{shown}\n{FENCE}")

    def extend_last(self, text: str) -> bool:
        """Append flowing text to the last paragraph if it stopped inside a sentence; False otherwise."""
        if not self._blocks or self._blocks[-1][-1] in '.!?:;`"”)' or not text[:1].islower():
            return False
        more = f" {fold(text)}"
        self._blocks[-1] += more
        self._length += len(more)
        return True

    def _block(self, text: str) -> None:
        if not text:
            return
        if self._blocks:
            self._length += len(_GAP)
        if not self._open:
            self._sections.append((self._length, " > ".join(heading for _, heading in self._path)))
            self._open = True
        self._blocks.append(text)
        self._length += len(text)

    def build(self) -> Extracted:
        """The finished text."""
        return Extracted(text=_GAP.join(self._blocks), title=self.title, sections=tuple(self._sections))


def fold(text: str) -> str:
    """White space folded to single spaces; soft hyphens and what cannot be seen removed."""
    return " ".join(_UNSEEN.sub("", text.replace("\u00ad", "")).split())


def _seen(text: str) -> str:
    """Text whose white space is kept, without what cannot be seen."""
    return _UNSEEN_IN_LINES.sub("", text)


def row_line(names: Sequence[str], values: Sequence[str], label: str = "") -> str:
    """One table row that can be read alone: `label, column: value; column: value`; empty cells are left out."""
    cells = [(fold(name), fold(value)) for name, value in zip(names, values, strict=True)]
    body = "; ".join(f"{name}: {value}" if name else value for name, value in cells if value)
    return f"{label}, {body}" if label and body else body


def table_lines(rows: Sequence[Sequence[str]], label: str = "") -> list[str]:
    """Lines of a table whose first row names the columns. Short rows are filled up; a lone row stays as it is."""
    if not rows:
        return []
    width = max(len(row) for row in rows)
    names, *body = [[*row, *[""] * (width - len(row))] for row in rows]
    if not body:
        return [row_line([""] * width, names, label)]
    return [row_line(names, row, label) for row in body]


def humanize(name: str) -> str:
    """`charges-2026` → `Charges 2026`."""
    words = fold(re.sub(r"[_\-]+", " ", name))
    return words[:1].upper() + words[1:]


def decode(data: bytes, declared: str = "") -> str:
    """Text of `data`: by its byte-order mark, else by the declared encoding, else as UTF-8.

    Raises: InputError saying where the bytes stop being text.
    """
    marks = [(codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")]
    encoding = next((name for mark, name in marks if data.startswith(mark)), declared or "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"not valid {encoding} at byte {error.start}: save the document as UTF-8") from error
    except LookupError as error:
        raise InputError(f"declares the unknown encoding {encoding!r}: save the document as UTF-8") from error
    except UnicodeError as error:  # of encodings for host names and the like
        raise InputError(f"not valid {encoding}: save the document as UTF-8") from error
    if "\x00" in text:
        raise InputError("holds NUL characters: this is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")
