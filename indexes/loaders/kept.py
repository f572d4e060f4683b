"""Copies of documents from elsewhere, in a folder of the state: each has its bytes and a record of what is known of it.

A download is written to a part file and renamed, and its record is written last. A record whose bytes are missing or
changed counts as no record, so a killed run or a damaged file costs a new download and nothing else.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from infra.errors import IntegrityError
from infra.settings import Spec
from infra.store import file_digest, text_digest, write_atomic


class Kept(Spec):
    """What is known of one document from elsewhere."""

    id: str
    """Its address: https://… or s3://bucket/key."""
    suffix: str = ""
    """Format, as a file suffix; empty where no bytes were ever kept."""
    digest: str = ""
    """sha256 of the kept bytes."""
    etag: str = ""
    modified: str = ""
    """Last-Modified, as the server wrote it."""
    place: str = ""
    """Address that the bytes came from after redirects: only there its etag means anything."""
    access: tuple[str, ...] = ()
    """Labels that its source in the policy states."""
    reason: str = ""
    """Why it cannot be used now; empty for a usable one."""

    @property
    def version(self) -> list[str]:
        """What decides whether it has to be read again: an object's etag, a page's bytes, or the reason against it."""
        content = self.etag if self.id.startswith("s3://") else self.digest
        return [self.id, self.suffix, self.reason or content]


class KeptFolder:
    """The folder: `<sha256 of the id>.json` and `<sha256 of the id><suffix>`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, kept: Kept) -> Path:
        """Where the bytes lie."""
        return self.folder / f"{text_digest(kept.id)}{kept.suffix}"

    def get(self, identity: str) -> Kept | None:
        """The record of a document whose bytes are whole, else None."""
        try:
            kept = Kept.model_validate_json(self._record(identity).read_text("utf-8"))
        except (FileNotFoundError, ValidationError, UnicodeDecodeError):
            return None
        path = self.path(kept)
        return kept if kept.digest and path.is_file() and file_digest(path) == kept.digest else None

    def put(self, kept: Kept, write: Callable[[BinaryIO], object]) -> Kept:
        """Keep the bytes that `write` writes, then the record; returns it with their digest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{text_digest(kept.id)}.part"
        with part.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        stored = kept.model_copy(update={"digest": file_digest(part)})
        part.replace(self.path(stored))
        return self.note(stored)

    def note(self, kept: Kept) -> Kept:
        """Write the record only: nothing changed, or nothing could be had."""
        write_atomic(self._record(kept.id), kept.model_dump_json())
        return kept

    def keep_only(self, kept: Iterable[Kept]) -> None:
        """Remove what belongs to no document of the list, such as pages that the policy no longer names."""
        wanted = {path for item in kept for path in (self.path(item), self._record(item.id))}
        for path in self.folder.glob("*"):
            if path not in wanted:
                path.unlink()

    def all(self) -> list[Kept]:
        """Every record, sorted by id. Raises IntegrityError for one that is no record."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                found.append(Kept.model_validate_json(path.read_text("utf-8")))
            except (ValidationError, UnicodeDecodeError) as error:
                raise IntegrityError(f"{path}: not a record of a kept document; delete it and run again") from error
        return sorted(found, key=lambda kept: kept.id)

    def _record(self, identity: str) -> Path:
        return self.folder / f"{text_digest(identity)}.json"
