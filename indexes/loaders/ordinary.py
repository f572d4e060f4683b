"""Which names and files are taken at all: names that can be shown and stored, ordinary files inside the folder."""

import stat
import unicodedata
from pathlib import Path

from indexes.loaders.formats import check_size
from infra.errors import InputError

NAME_LIMIT = 1000
"""Characters of an id; every chunk repeats it."""

REASON_LIMIT = 500
"""Characters of a reason; what a document holds may stand in one."""


def printable(text: str) -> str:
    """`text` as people, JSON and databases take it: controls, and bytes of a name that are no UTF-8, are written out.

    `a\\nb` becomes `a\\\\nb`; a text without such characters stays as it is.
    """
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in text
    )


def check_name(name: str) -> None:
    """Raises InputError for an id that cannot be shown, stored or quoted."""
    if printable(name) != name:
        raise InputError("its name holds control characters or is not UTF-8: rename it")
    if len(name) > NAME_LIMIT:
        raise InputError(f"its name has more than {NAME_LIMIT} characters: shorten it")


def check_file(path: Path, folder: Path, max_bytes: int) -> None:
    """Raises InputError for what is no ordinary file of 1 to `max_bytes` bytes inside `folder` (resolved).

    Opening a pipe or a device may wait or read for ever, so nothing is opened here.
    """
    try:
        place, found = path.resolve(), path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        if path.is_symlink():
            raise InputError("a link to no file: copy the document in") from error
        raise
    if not place.is_relative_to(folder):
        raise InputError("a link out of the documents folder: copy the file in")
    if not stat.S_ISREG(found.st_mode):
        raise InputError("not an ordinary file, but a folder, pipe, socket or device: put a copy of the document there")
    check_size(found.st_size, max_bytes)
