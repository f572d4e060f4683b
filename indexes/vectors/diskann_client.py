"""Asks the DiskANN process: starts it when needed, once more if it dies, and never waits for it without end."""

import json
import os
import select
import struct
import subprocess
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np

from indexes.types import Vectors
from indexes.vectors.diskann_files import PREFIX
from indexes.vectors.port import Rows
from infra.errors import SetupError, TryAgainError
from infra.settings import settings

SCRIPT = Path(__file__).with_name("diskann_process.py")
SEARCH_S = 30.0
"""Seconds in which a search, and the start before it, must be done."""
BUILD_S = 12 * 3600.0
BEAM = 4
"""Rows that are read from the disk at once."""
_LENGTH = struct.Struct("<I")
_LOG_BYTES = 2_000
_END_S = 5.0


def disk_python() -> Path:
    """Python of the environment with DiskANN. Raises SetupError where there is none."""
    python = settings().disk_python
    if not python.is_file():
        raise SetupError(f"index.kind: diskann needs the environment of {python}, which is not there: run make setup")
    return python


class _EndedError(Exception):
    """The process is gone; with the last lines that it wrote."""


class DiskProcess:
    """One process, from construction until `end`, the end of this object, or the end of this process."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        lifeline, mine = os.pipe()
        try:
            self._child = subprocess.Popen(
                [disk_python(), "-I", "-OO", SCRIPT, str(lifeline)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                pass_fds=(lifeline,),
                env={**os.environ, **settings().quiet_environment(), "RUST_LOG": "error"},
                bufsize=0,
            )
        except BaseException:
            os.close(mine)
            raise
        finally:
            os.close(lifeline)
        self.end = weakref.finalize(self, _end, self._child, mine)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def ask(self, header: dict[str, Any], body: bytes, seconds: float) -> bytes:
        """The numbers of the answer.

        Raises: _EndedError when the process is gone; TryAgainError when it does not answer in time, and is ended then;
        SetupError for what the library refuses.
        """
        assert self._child.stdin is not None
        deadline = time.monotonic() + seconds
        text = json.dumps({**header, "body": len(body)}).encode()
        try:
            self._child.stdin.write(_LENGTH.pack(len(text)) + text + body)
            (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
            told = json.loads(self._read(length, deadline))
            numbers = self._read(told["body"], deadline)
        except BrokenPipeError as error:
            raise _EndedError(self._last_lines()) from error
        except TimeoutError as error:
            self._child.kill()
            self.end()
            raise TryAgainError(
                f"DiskANN did not {header['do']} within {seconds:g} s; its process was ended"
            ) from error
        if "error" in told:
            raise SetupError(f"DiskANN cannot {header['do']}: {told['error']}")
        return numbers

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._child.stdout is not None
        handle, data = self._child.stdout.fileno(), b""
        watch = select.poll()
        watch.register(handle, select.POLLIN)
        while len(data) < size:
            if not watch.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise TimeoutError
            part = os.read(handle, size - len(data))
            if not part:
                raise _EndedError(self._last_lines())
            data += part
        return data

    def _last_lines(self) -> str:
        self.end()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_BYTES))
        told = self._log.read().decode("utf-8", "replace").strip()
        return f"exit code {self._child.returncode}{': ' + told if told else ''}"


def _end(child: subprocess.Popen[bytes], lifeline: int) -> None:
    """Closing the lifeline ends the process; a stopped one is killed."""
    os.close(lifeline)
    for stream in (child.stdin, child.stdout):
        assert stream is not None
        stream.close()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def build(folder: Path, vectors: Path, degree: int, complexity: int, gib: float) -> None:
    """Write an index of `vectors` (DiskANN's format) into `folder`. Raises SetupError, TryAgainError."""
    process = DiskProcess()
    place = {"vectors": str(vectors), "folder": str(folder), "prefix": PREFIX}
    asked = {**place, "degree": degree, "complexity": complexity, "gib": gib}
    try:
        process.ask({"do": "build", **asked}, b"", BUILD_S)
    except _EndedError as ended:
        raise SetupError(f"DiskANN ended while it built an index: {ended}") from ended
    finally:
        process.end()


class DiskSearcher:
    """Searches of one index, one after the other; the process starts with the first."""

    def __init__(self, folder: Path, dimension: int, seconds: float = SEARCH_S) -> None:
        self._opening = {
            "do": "open",
            "folder": str(folder),
            "prefix": PREFIX,
            "dimension": dimension,
            "beam": BEAM,
        }
        self.seconds = seconds
        """In which an answer must come."""
        self._process: DiskProcess | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Id of the process, where there is one."""
        return self._process.pid if self._process else None

    def search(self, query: Vectors, k: int, complexity: int) -> Rows:
        """About the `k` rows nearest to `query`, nearest first, with `complexity` (at least k) candidates kept.

        Raises: SetupError when the process dies twice or the library refuses; TryAgainError when it does not answer.
        """
        with self._lock:
            try:
                return self._ask(query, k, complexity)
            except _EndedError:
                self._process = None
            try:
                return self._ask(query, k, complexity)
            except _EndedError as ended:
                self._process = None
                raise SetupError(f"{self._opening['folder']}: DiskANN ended twice in one search: {ended}") from ended

    def _ask(self, query: Vectors, k: int, complexity: int) -> Rows:
        try:
            if self._process is None:
                self._process = DiskProcess()
                self._process.ask(self._opening, b"", self.seconds)
            body = np.ascontiguousarray(query, "<f4").tobytes()
            found = self._process.ask({"do": "search", "k": k, "complexity": complexity}, body, self.seconds)
        except (SetupError, TryAgainError):
            self._process = None
            raise
        rows = np.frombuffer(found, "<u4").astype(np.int64)
        return rows[np.sort(np.unique(rows, return_index=True)[1])]  # where there are fewer, the library fills up
