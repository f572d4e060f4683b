"""Memory of graphics cards by name."""

import re

from infra.errors import InputError

MIB = 2**20

GPUS: dict[str, int] = {
    "T4": 15_360 * MIB,
    "V100": 16_384 * MIB,
    "V100-32": 32_768 * MIB,
    "A10": 23_028 * MIB,
    "A10G": 23_028 * MIB,
    "L4": 23_034 * MIB,
    "RTX-3090": 24_576 * MIB,
    "RTX-4090": 24_564 * MIB,
    "RTX-5090": 32_607 * MIB,
    "A100-40": 40_960 * MIB,
    "A40": 46_068 * MIB,
    "L40S": 46_068 * MIB,
    "A6000": 49_140 * MIB,
    "A100-80": 81_920 * MIB,
    "H100": 81_559 * MIB,
    "H200": 143_771 * MIB,
    "B200": 183_359 * MIB,
    "MI300X": 196_592 * MIB,
}
"""Bytes that `nvidia-smi --query-gpu=memory.total` (`rocm-smi` for the MI300X) reports for the card with its error
correction on: the round number of the data sheet less what the driver keeps."""

ALIASES = {"A100": "A100-80", "H100-80": "H100", "V100-16": "V100", "B200-180": "B200", "H200-141": "H200"}

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def gpu_bytes(name: str) -> int:
    """Bytes of a card by its name ("A100-80GB", "rtx 4090") or of a size ("24GiB", "80GB", "85899345920").

    Raises: InputError for neither.
    """
    size = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?I?B)?", name.strip().upper())
    if size:
        value = int(float(size[1]) * UNITS[size[2] or ""])
        if value < MIB:
            raise InputError(f"gpu {name!r}: less than a MiB; give bytes, or a unit such as 24GiB")
        return value
    card = re.sub(r"[ _-]+", "", name.upper()).removeprefix("NVIDIA").removesuffix("GB")
    for known, meant in (*((known, known) for known in GPUS), *ALIASES.items()):
        if card == known.replace("-", ""):
            return GPUS[meant]
    raise InputError(f"gpu {name!r}: give a size such as 24GiB or 85899345920, or one of {', '.join(GPUS)}")
