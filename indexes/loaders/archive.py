"""What is checked of an Office file (a zip archive) before anything is unpacked: password, macros, decompression bombs.

The sizes are those that the archive's directory declares; zipfile never unpacks an entry beyond its declared size, so
a directory that lies makes a damaged file, not a large one.
"""

import io
import zipfile

from infra.errors import InputError

_OLE = b"\xd0\xcf\x11\xe0"
"""First bytes of the older container: files of Office 2003, and newer ones that are encrypted."""
_MACROS = ("vbaproject.bin", "/macrosheets/")
UNPACKED_LIMIT = 500_000_000
"""Bytes that a document may unpack to."""
RATIO_LIMIT = 100
"""Times its packed size that it may unpack to; office programs stay near 10. Deflate reaches 1,032."""
RATIO_FROM = 10_000_000
"""Bytes unpacked below which no ratio is held against a file: small ones of one repeated value do no harm."""
ENTRIES_LIMIT = 20_000
"""Files in one archive."""


def check_office(data: bytes, suffix: str, kind: str) -> None:
    """Refuse what must not be parsed. `suffix` is `.docx`, `.pptx` or `.xlsx`, `kind` its name for people.

    Raises: InputError when encrypted, old, damaged, holding macros, or unpacking to too much.
    """
    if data.startswith(_OLE):
        old = suffix.removesuffix("x")
        raise InputError(f"encrypted or an old {old} file: save it as {suffix} without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"damaged {kind} ({error}): save it again") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError(f"encrypted: save it as {suffix} without a password")
    if any(mark in f"/{entry.filename}".lower() for entry in entries for mark in _MACROS):
        raise InputError(f"holds macros: save it as {suffix} without them")
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > ENTRIES_LIMIT or unpacked > UNPACKED_LIMIT:
        raise InputError(f"unpacks to more than {ENTRIES_LIMIT} files or {UNPACKED_LIMIT} bytes: split it")
    if unpacked > RATIO_FROM and unpacked > RATIO_LIMIT * len(data):
        raise InputError(f"unpacks to more than {RATIO_LIMIT} times its size, like a decompression bomb: split it")
