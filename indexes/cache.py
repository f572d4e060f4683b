"""Results kept under a digest of what they were made from. A cache: losing it costs time, never correctness."""

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from indexes.types import Vectors
from infra.errors import SetupError

_SCHEMA = "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL)"
_LOCK_WAIT_S = 60.0
_AT_ONCE = 500
"""Keys of one query (SQLite takes 999 parameters at least)."""
_BATCH = 64
"""Items between two writes: what a killed run loses at most, and what is held in memory."""

Item = TypeVar("Item")


class Once(NamedTuple, Generic[Item]):
    """The result of one item, and whether it had to be made now."""

    item: Item
    value: bytes
    is_new: bool


class ContentCache:
    """Bytes under a key, in one SQLite file; several processes may share it.

    A damaged file is replaced, a damaged row is left out. The key has to name all that decides the bytes.
    """

    def __init__(self, file: Path, spare: int = 1000) -> None:
        """`spare`: so many unused rows are never too many."""
        self.file = file
        self.spare = spare

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """What is there and undamaged. Raises SetupError when the file cannot be used."""
        wanted = sorted(set(keys))
        found: dict[str, bytes] = {}
        if not self.file.is_file():
            return found
        try:
            with self._connection() as connection:
                for first in range(0, len(wanted), _AT_ONCE):
                    part = wanted[first : first + _AT_ONCE]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, value, checksum FROM kept WHERE key IN ({marks})"  # noqa: S608 - only question marks are inserted
                    for key, value, checksum in connection.execute(query, part):
                        if _checksum(key, value) == checksum:
                            found[key] = value
        except sqlite3.OperationalError as error:
            raise SetupError(f"{self.file}: the cache cannot be used ({error}); free or delete it") from error
        except sqlite3.DatabaseError:
            self._discard()
            return {}
        return found

    def write(self, rows: Mapping[str, bytes]) -> None:
        """Keep rows under their keys. Raises SetupError when the disk refuses."""
        if not rows:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        made = [(key, value, _checksum(key, value)) for key, value in rows.items()]
        self._change(lambda connection: connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", made))

    def trim(self, used: Collection[str]) -> None:
        """Forget what is not among `used` once there is more of that than of `used` and than `spare`.

        So the file holds about twice what a run needs at most, and what was changed or taken away a short time ago is
        still there when it comes back. Raises SetupError when the disk refuses.
        """
        if self.file.is_file():
            self._change(lambda connection: _forget(connection, used, len(used) + max(len(used), self.spare)))

    def once(
        self, items: Iterable[Item], key: Callable[[Item], str], make: Callable[[Item], bytes | None]
    ) -> Iterator[Once[Item]]:
        """Every item in order with its result, which is made only if it is not kept; at the end the cache is trimmed.

        An item for which `make` gives None is passed over, and nothing is kept for it.
        """
        used: set[str] = set()
        waiting = iter(items)
        while batch := list(islice(waiting, _BATCH)):
            keys = [key(item) for item in batch]
            known = self.read(keys)
            made: dict[str, bytes | None] = {}
            for item, name in zip(batch, keys, strict=True):
                if name not in known and name not in made:
                    made[name] = make(item)
            fresh = {name: value for name, value in made.items() if value is not None}
            self.write(fresh)
            used.update(known, fresh)
            for item, name in zip(batch, keys, strict=True):
                value = known[name] if name in known else made[name]
                if value is not None:
                    yield Once(item, value, name in made)
        self.trim(used)

    def _change(self, change: Callable[[sqlite3.Connection], object]) -> None:
        try:
            with self._connection() as connection, connection:
                change(connection)
        except sqlite3.OperationalError as error:
            raise SetupError(f"{self.file}: the cache cannot be written ({error})") from error
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


class NoCache(ContentCache):
    """Keeps nothing: everything is made each time."""

    def __init__(self) -> None:
        super().__init__(Path())

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Nothing is there."""
        return {}

    def write(self, rows: Mapping[str, bytes]) -> None:
        """Nothing is kept."""

    def trim(self, used: Collection[str]) -> None:
        """Nothing is there."""


class EmbeddingCache:
    """Vectors under (embedder version, digest of the text)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._cache = ContentCache(file)

    def read(self, embedder: str, texts: Sequence[str], dimension: int) -> dict[str, Vectors]:
        """Text digest → vector of shape (dimension,) for what is there and undamaged."""
        return {
            text: np.frombuffer(blob, "<f4").astype(np.float32)
            for text, blob in self.blobs(embedder, texts).items()
            if len(blob) == 4 * dimension
        }

    def write(self, embedder: str, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors under their text digests. Raises SetupError when the disk refuses."""
        self.keep(embedder, {text: np.ascontiguousarray(vector, "<f4").tobytes() for text, vector in vectors.items()})

    def blobs(self, embedder: str, texts: Sequence[str]) -> dict[str, bytes]:
        """Text digest → the bytes that were kept, for what is there and undamaged."""
        found = self._cache.read(_vector_key(embedder, text) for text in texts)
        return {key.rsplit("/", 1)[1]: blob for key, blob in found.items()}

    def keep(self, embedder: str, blobs: Mapping[str, bytes]) -> None:
        """Keep bytes under their text digests. Raises SetupError when the disk refuses."""
        self._cache.write({_vector_key(embedder, text): blob for text, blob in blobs.items()})

    def trim(self, embedder: str, texts: Iterable[str]) -> None:
        """See ContentCache: `texts` are the digests of what a run used. Other embedders' vectors count as unused."""
        self._cache.trim({_vector_key(embedder, text) for text in texts})


def _vector_key(embedder: str, text: str) -> str:
    return f"{embedder}/{text}"


def _forget(connection: sqlite3.Connection, used: Collection[str], most: int) -> None:
    (rows,) = connection.execute("SELECT count(*) FROM kept").fetchone()
    if rows <= most:
        return
    connection.execute("CREATE TEMP TABLE used (key TEXT PRIMARY KEY)")
    connection.executemany("INSERT INTO used VALUES (?)", ((key,) for key in used))
    connection.execute("DELETE FROM kept WHERE key NOT IN (SELECT key FROM used)")


def _checksum(key: str, value: bytes) -> bytes:
    """Binds bytes to their key, so that neither a changed byte nor a swapped row goes unseen."""
    return hashlib.sha256(f"{key}\n".encode() + value).digest()
