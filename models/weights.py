"""A safetensors file checked by its header alone: a cut-off copy is named before a library trips over it."""

import json
from pathlib import Path

from infra.errors import InputError

LENGTH_BYTES = 8


def check_whole(path: Path) -> None:
    """Raise InputError naming a safetensors file that is missing, damaged, or shorter or longer than its header says.

    Format: 8 bytes with the length of the header, the header in JSON with the byte range of every tensor, the tensors.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        text = stream.read(length) if length <= size else b""
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: no whole safetensors file, its header cannot be read; {_ADVICE}") from error
    expected = LENGTH_BYTES + length + max(ends, default=0)
    if size != expected:
        raise InputError(f"{path}: {size:,} bytes, but its header says {expected:,}: cut off or damaged; {_ADVICE}")


_ADVICE = "fetch or make it again"
