"""Documents on disk while a corpus is read: they come in any order and are handed on sorted by id."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from indexes.types import Document, Quarantined
from infra.store import json_line


class Spool:
    """A temporary file of documents; only their ids and places are held in memory. Use as a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, identity: str) -> bool:
        return identity in self._places

    def __iter__(self) -> Iterator[str]:
        """Ids, sorted."""
        return iter(sorted(self._places))

    def add(self, document: Document) -> None:
        """Keep one more document; its id must be a new one."""
        line = json_line(document).encode()
        self._file.write(line)
        self._places[document.id] = self._end, len(line)
        self._end += len(line)

    def lines(self, ids: Iterable[str]) -> Iterator[str]:
        """The documents of `ids`, each as a JSON line."""
        for identity in ids:
            start, length = self._places[identity]
            self._file.seek(start)
            yield self._file.read(length).decode()


class OpenCorpus(NamedTuple):
    """A corpus that was read; its documents lie in a temporary file until open_corpus ends."""

    ids: list[str]
    """Of the usable documents, sorted."""
    quarantined: list[Quarantined]
    """Sorted by id: one entry for everything that could not be used."""
    superseded: list[str]
    """Ids of documents left out because a newer one replaces them."""
    splits: dict[str, str]
    """Document id → train, validation or gate, where the manifest says so."""
    formats: Counter[str]
    """Usable documents by their media."""
    spool: Spool
    computed: int
    """Documents that had to be read; the text of the others was kept."""
    total: int
    """Documents that were there to be read."""

    def lines(self) -> Iterator[str]:
        """The usable documents in the order of `ids`, each as a JSON line."""
        return self.spool.lines(self.ids)
