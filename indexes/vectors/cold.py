"""Drops files from the page cache, so that the next search reads them from the disk; needs no privilege."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

_DONTNEED = 4  # MADV_DONTNEED


def forget(folder: Path) -> float:
    """Drop every file of `folder` from memory; share of their pages that stayed, because another process maps them
    or the file system keeps them there (tmpfs).

    Pages that this process maps are let go first. Raises OSError.
    """
    files = [file for file in sorted(folder.resolve().iterdir()) if file.stat().st_size]
    _let_go({str(file) for file in files})
    stayed = pages = 0
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())  # a page that is not written yet cannot be dropped
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        kept = _in_memory(file)
        stayed, pages = stayed + int(kept.sum()), pages + len(kept)
    return stayed / max(pages, 1)


def _let_go(files: set[str]) -> None:
    """Take the pages of these files out of this process's mappings."""
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5] in files and "w" not in words[1]:
            start, end = (int(word, 16) for word in words[0].split("-"))
            _called("madvise", ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _in_memory(file: Path) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which pages of a file are in the page cache."""
    mapped = np.memmap(file, np.uint8, "r")
    told = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
    _called(
        "mincore",
        mapped.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_size_t(len(mapped)),
        ctypes.c_void_p(told.ctypes.data),
    )
    return (told & 1).astype(np.bool_)


def _called(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name} failed")
