"""The parent's side of the reading process: a deadline for every document, and a new process after a crash."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from indexes.loaders.extracted import Extracted
from indexes.loaders.worker import READY
from infra.errors import InputError, SetupError
from infra.settings import ROOT, settings

_START_S = 120.0
_END_S = 5.0
_TAIL = 4096
"""Bytes at the end of what a process printed, in which its last error stands."""


class ReadingStoppedError(InputError):
    """A document that was not read to its end: not its bytes alone decided that, so another try may go otherwise."""


class IsolatedReader:
    """Reads documents in another process. Use as a context manager.

    A document that hangs, crashes its parser or takes all memory costs only itself: read() raises InputError.
    """

    def __init__(self, seconds: float, memory_mb: int, characters: int) -> None:
        self.seconds = seconds
        self.memory_mb = memory_mb
        self.characters = characters
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._errors: IO[bytes] = self._open.enter_context(tempfile.TemporaryFile())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()
        self._open.close()

    def read(self, path: Path, label: str) -> Extracted:
        """Text of one file.

        Raises: InputError with the reason, ReadingStoppedError without an answer, SetupError without a process.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"path": str(path), "label": label}) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=self.seconds)
        except queue.Empty:
            self._stop()
            raise ReadingStoppedError(f"reading took longer than {self.seconds:g} s: split or simplify it") from None
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ReadingStoppedError(self._death(process))
        parsed = json.loads(answer)
        if parsed.get("ended"):
            self._stop()
            raise ReadingStoppedError(parsed["reason"])
        if "reason" in parsed:
            raise InputError(parsed["reason"])
        return Extracted.model_validate(parsed["extracted"])

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None:
            return self._process
        self._errors.seek(0)
        self._errors.truncate()
        command = [sys.executable, "-m", "indexes.loaders.worker", str(self.memory_mb), str(self.characters)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            encoding="utf-8", env=_environment(),
        )  # fmt: skip
        self._answers = queue.Queue()
        threading.Thread(target=_forward, args=(self._process, self._answers), daemon=True).start()
        try:
            ready = self._answers.get(timeout=_START_S).strip() == READY
        except queue.Empty:
            ready = False
        if not ready:
            reason = self._last_error()
            self._stop()
            raise SetupError(f"the document reader does not start: {reason}; run the set-up again")
        return self._process

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        self._process = None

    def _death(self, process: "subprocess.Popen[str]") -> str:
        """Why a document ended the reading process, which is stopped."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)  # what ended it must not be hidden by the signal that _stop sends
        printed = self._last_error()
        self._stop()
        if "MemoryError" in printed or process.returncode == -signal.SIGKILL:
            return f"needs more memory than {self.memory_mb} MiB or than there is: split or simplify it"
        return "stops its reader: damaged or too complex; save or export it again, or simplify it"

    def _last_error(self) -> str:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _TAIL))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no message")


def _forward(process: subprocess.Popen[str], answers: "queue.Queue[str]") -> None:
    """Hand the process's lines on; an empty line says that it ended."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line)
    except ValueError:  # the parent closed the stream after killing the process
        return
    answers.put("")


def _environment() -> dict[str, str]:
    return dict(os.environ) | settings().quiet_environment()
