"""Lines on disk in the order they came, until somebody has taken them: a killed process loses none.

A spool is a folder of numbered segments. One thread appends, one takes. What was taken is remembered per segment, not
per line: after a kill the lines of the last segments come again, so whoever takes them must bear a line twice.
"""

import errno
import fcntl
import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.errors import SetupError

LOG = logging.getLogger("sluice.spool")
SEGMENT_BYTES = 4 * 2**20


@dataclass(eq=False, slots=True)
class _Segment:
    path: Path
    size: int
    """Bytes that are safely on disk."""
    taken: int = 0
    """Bytes before which every line was taken."""
    closed: bool = True
    """Nothing is appended any more."""


class Spool:
    """The spool of one folder and one process. `most_bytes` bounds what it holds; None: as much as the disk does."""

    def __init__(self, folder: Path, most_bytes: int | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Raises: SetupError for a folder that cannot be written or that another process has."""
        self._most = most_bytes
        self._segment_bytes = segment_bytes
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = folder
            self._owner = (folder / "lock").open("w")
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = sorted(folder.glob("*.jsonl"))
            self._segments = deque(_Segment(path, path.stat().st_size) for path in found)
            self.waiting = sum(path.read_bytes().count(b"\n") for path in found)
            """Lines that nobody has taken."""
            self._number = int(found[-1].stem) if found else 0
            self._begin_segment()
        except BlockingIOError as error:
            raise SetupError(f"{folder}: another process has this spool; stop it first") from error
        except OSError as error:
            raise SetupError(f"{folder}: no spool can be kept here: {error.strerror}; free space or move it") from error

    @classmethod
    def temporary(cls) -> Self:
        """A spool that goes with the process: for tests and short work."""
        folder = tempfile.TemporaryDirectory(prefix="sluice-spool-")
        made = cls(Path(folder.name))
        made._temporary = folder
        return made

    @property
    def held_bytes(self) -> int:
        """Bytes on disk, lines that were taken included as long as their segment is there."""
        with self._lock:
            return sum(segment.size for segment in self._segments)

    def append(self, lines: Sequence[bytes]) -> int:
        """Put lines (without their ends) on the disk; returns how many there was room for, the first ones.

        They are safe when it returns. Raises: SetupError where the disk does not take them; then none is kept.
        """
        room = len(lines) if self._most is None else self._fitting(lines, self._most - self.held_bytes)
        if room == 0:
            return 0
        data = b"".join(line + b"\n" for line in lines[:room])
        segment = self._current
        try:
            if self._file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self._file.truncate(segment.size)
            self._file.seek(segment.size)
            raise SetupError(f"{segment.path}: {error.strerror}; free space") from error
        with self._lock:
            segment.size += len(data)
            self.waiting += room
            if segment.size >= self._segment_bytes:
                self._end_segment()
                self._begin_segment()
        return room

    @staticmethod
    def _fitting(lines: Sequence[bytes], room: int) -> int:
        for number, line in enumerate(lines):
            room -= len(line) + 1
            if room < 0:
                return number
        return len(lines)

    def peek(self, most: int) -> list[bytes]:
        """The oldest lines that nobody has taken, at most so many, of one segment; none when all were taken."""
        while True:
            with self._lock:
                segment = self._segments[0]
                start, end, closed = segment.taken, segment.size, segment.closed
            lines = self._lines(segment.path, start, end, most) if start < end else []
            if lines or not closed:
                return lines
            if start < end:
                LOG.warning("%s ends in %d bytes of a line that was never whole", segment.path, end - start)
            segment.path.unlink(missing_ok=True)
            with self._lock:
                self._segments.popleft()

    @staticmethod
    def _lines(path: Path, start: int, end: int, most: int) -> list[bytes]:
        """Whole lines between two places; the first of them begins at `start`."""
        lines: list[bytes] = []
        with path.open("rb") as stream:
            stream.seek(start)
            while len(lines) < most and stream.tell() < end:
                line = stream.readline()
                if not line.endswith(b"\n"):
                    break
                lines.append(line[:-1])
        return lines

    def take(self, lines: Sequence[bytes]) -> None:
        """Say that these lines, the ones last peeked, are safe elsewhere."""
        with self._lock:
            self._segments[0].taken += sum(len(line) + 1 for line in lines)
            self.waiting -= len(lines)

    def close(self) -> None:
        """Close the files; what was taken goes, the rest stays for the next process."""
        self.peek(1)
        with self._lock:
            self._end_segment()
            last = self._segments[-1]
            if last.taken == last.size:
                last.path.unlink(missing_ok=True)
        self._owner.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _begin_segment(self) -> None:
        self._number += 1
        path = self._folder / f"{self._number:012d}.jsonl"
        self._file = path.open("xb", buffering=0)
        self._current = _Segment(path, 0, closed=False)
        self._segments.append(self._current)
        _sync_folder(self._folder)

    def _end_segment(self) -> None:
        self._file.close()
        self._current.closed = True


def _sync_folder(folder: Path) -> None:
    """Make a new file's name safe, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
