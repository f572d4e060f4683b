"""Vectors kept under (embedder version, digest of the text). A cache: losing it costs time, never correctness."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from indexes.types import Vectors
from infra.errors import SetupError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    embedder TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY (embedder, text)
) WITHOUT ROWID
"""
_LOCK_WAIT_S = 60.0
_AT_ONCE = 500
"""Keys of one query (SQLite takes 999 parameters at least)."""


class EmbeddingCache:
    """One SQLite file; several processes may share it. A damaged file is replaced, a damaged row is left out."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self, embedder: str, texts: Sequence[str], dimension: int) -> dict[str, Vectors]:
        """Text digest → vector of shape (dimension,) for what is there and undamaged."""
        blobs = self.blobs(embedder, texts)
        return {
            text: np.frombuffer(blob, "<f4").astype(np.float32)
            for text, blob in blobs.items()
            if len(blob) == 4 * dimension
        }

    def write(self, embedder: str, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors under their text digests. Raises SetupError when the disk refuses."""
        self.keep(embedder, {text: np.ascontiguousarray(vector, "<f4").tobytes() for text, vector in vectors.items()})

    def blobs(self, embedder: str, texts: Sequence[str]) -> dict[str, bytes]:
        """Text digest → the bytes that were kept, for what is there and undamaged."""
        wanted = sorted(set(texts))
        found: dict[str, bytes] = {}
        if not self.file.is_file():
            return found
        try:
            with self._connection() as connection:
                for first in range(0, len(wanted), _AT_ONCE):
                    part = wanted[first : first + _AT_ONCE]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT text, vector, checksum FROM vectors WHERE embedder = ? AND text IN ({marks})"  # noqa: S608 - only question marks are inserted
                    for text, blob, checksum in connection.execute(query, [embedder, *part]):
                        if _checksum(embedder, text, blob) == checksum:
                            found[text] = blob
        except sqlite3.OperationalError as error:
            raise SetupError(f"{self.file}: the embedding cache cannot be used ({error}); free or delete it") from error
        except sqlite3.DatabaseError:
            self._discard()
            return {}
        return found

    def keep(self, embedder: str, blobs: Mapping[str, bytes]) -> None:
        """Keep bytes under their text digests. Raises SetupError when the disk refuses."""
        rows = [(embedder, text, blob, _checksum(embedder, text, blob)) for text, blob in blobs.items()]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._connection() as connection, connection:
                connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise SetupError(f"{self.file}: the embedding cache cannot be written ({error})") from error
        except sqlite3.DatabaseError:
            self._discard()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file, timeout=_LOCK_WAIT_S)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_SCHEMA)
            yield connection

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)


def _checksum(embedder: str, text: str, blob: bytes) -> str:
    """Binds a vector to its key, so that neither a changed byte nor a swapped row goes unseen."""
    return hashlib.sha256(f"{embedder}\n{text}\n".encode() + blob).hexdigest()
