"""The process that holds DiskANN: run by `.venv-disk`, asked over its pipes, ends with whoever started it.

It knows nothing of the project. A message is a little-endian uint32, so many bytes of JSON with its field `body`, and
then so many bytes of numbers (float32 asked, uint32 answered). The library writes to standard output at will: the
answers go to a copy of that descriptor, and what the library writes goes to standard error.
"""

import fcntl
import json
import os
import select
import signal
import struct
import sys
from typing import Any, BinaryIO

import diskannpy  # type: ignore[import-not-found]  # it is in the other environment only
import numpy as np

LENGTH = struct.Struct("<I")


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_starter(int(sys.argv[1]))
    holder = _Holder()
    while request := _read(sys.stdin.buffer):
        header, body = request
        try:
            told, numbers = {}, holder.answer(header, body)
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            told, numbers = {"error": f"{type(error).__name__}: {error}"}, b""
        text = json.dumps({**told, "body": len(numbers)}).encode()
        answers.write(LENGTH.pack(len(text)) + text + numbers)
        answers.flush()


def _end_with_starter(lifeline: int) -> None:
    """Have the kernel end this process when the other end of the pipe `lifeline` closes, also inside native code."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO ends a process
    watch = select.poll()
    watch.register(lifeline, 0)
    if watch.poll(0):  # closed before the line above
        sys.exit(0)


def _read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None at the end."""
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    header = json.loads(stream.read(*LENGTH.unpack(length)))
    return header, stream.read(header["body"])


class _Holder:
    """The one index of this process."""

    def __init__(self) -> None:
        self._index: Any = None

    def answer(self, header: dict[str, Any], body: bytes) -> bytes:
        """The numbers that a request is answered with."""
        if header["do"] == "build":
            diskannpy.build_disk_index(
                data=header["vectors"],
                distance_metric="l2",
                index_directory=header["folder"],
                complexity=header["complexity"],
                graph_degree=header["degree"],
                build_memory_maximum=header["gib"],
                num_threads=1,
                num_of_pq_chunks=1,  # the codes are made by the starter
                vector_dtype=np.float32,
                index_prefix=header["prefix"],
            )
            return b""
        if header["do"] == "open":
            self._index = diskannpy.StaticDiskIndex(
                index_directory=header["folder"],
                num_threads=1,
                beam_width=header["beam"],
                distance_metric="l2",
                vector_dtype=np.float32,
                dimensions=header["dimension"],
                index_prefix=header["prefix"],
            )
            return b""
        query = np.frombuffer(body, "<f4")
        found = self._index.search(query, header["k"], header["complexity"])
        rows: bytes = found.identifiers.astype("<u4").tobytes()
        return rows


if __name__ == "__main__":
    main()
