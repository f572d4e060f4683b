"""What there is to read: every file, line, row, page and object of a corpus as a source, or the reason against it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from indexes.loaders.database import read_table, source_name
from indexes.loaders.extracted import Extracted, humanize
from indexes.loaders.formats import JSONL, MEDIA, check_suffix
from indexes.loaders.isolated import IsolatedReader, ReadingStoppedError
from indexes.loaders.jsonl import read_jsonl
from indexes.loaders.kept import Kept, KeptFolder
from indexes.loaders.manifest import Manifest
from indexes.loaders.ordinary import check_file, check_name
from indexes.loaders.spec import CorpusSpec
from infra.errors import InputError
from infra.store import file_digest, value_digest

_LABELLED = ("csv",)
"""Formats whose text begins its lines with the document's title."""


class Source(NamedTuple):
    """A document before it is read."""

    id: str
    media: str
    digest: str
    """Of its bytes, of its line or of its row."""
    about: object
    """What else decides the text, as plain data."""
    fallback: str
    """Title of a document that states none."""
    kept: Kept | None
    """Its record, where it comes from elsewhere."""
    extract: Callable[[], Extracted]
    """Raises InputError with the reason against it."""

    @property
    def content(self) -> str:
        """Digest of everything that decides the text, but for the code that reads it."""
        return value_digest([self.media, self.digest, self.about])


class Sources:
    """Lists the sources of a corpus. Afterwards `named` has what was there, `quarantined` what cannot be read."""

    def __init__(self, spec: CorpusSpec, folder: Path, manifest: Manifest, reader: IsolatedReader) -> None:
        self.spec = spec
        self.folder = folder
        self.manifest = manifest
        self.reader = reader
        self.named: set[str] = set()
        self.quarantined: dict[str, str] = {}

    def files(self) -> Iterator[Source]:
        """The files that the patterns name."""
        for identity, path in _files(self.spec, self.folder).items():
            self.named.add(identity)
            try:
                check_name(identity)
                check_file(path, self.folder, self.spec.max_bytes)
                yield from self._of_file(identity, path, humanize(path.stem))
            except (InputError, OSError) as error:
                self.quarantined[identity] = str(error)

    def rows(self) -> Iterator[Source]:
        """The rows of the database tables. Raises PolicyError for a wrong table."""
        for table in self.spec.sql:
            try:
                for row in read_table(table, self.folder):
                    extract = _given(Extracted(text=row.text, title=row.title))
                    yield Source(row.id, "sql", row.digest, table.model_dump(), row.title, None, extract)
            except InputError as error:
                if error.__class__ is not InputError:
                    raise
                self.quarantined[source_name(table)] = str(error)

    def copies(self, copies: KeptFolder) -> Iterator[Source]:
        """The kept copies of web pages and objects."""
        for kept in copies.all():
            self.named.add(kept.id)
            try:
                check_name(kept.id)
                if kept.reason:
                    raise InputError(kept.reason)
                path = copies.path(kept)
                if file_digest(path) != kept.digest:
                    raise InputError(f"its kept copy was changed: delete {path} and run again")
                yield from self._of_file(kept.id, path, _last_name(kept.id), kept)
            except (InputError, OSError) as error:
                self.quarantined[kept.id] = str(error)

    def missing(self) -> dict[str, str]:
        """The documents that only the manifest names, with the reason. Comes last."""
        return {
            name: "missing: the manifest names it and no source of the corpus has it"
            for name in self.manifest.entries
            if not self.named & {name, name.split("#")[0]} and not (self.folder / name.split("#")[0]).is_file()
        }

    def _of_file(self, identity: str, path: Path, fallback: str, kept: Kept | None = None) -> Iterator[Source]:
        """The document or documents of one file; `fallback` is their title."""
        suffix = path.suffix.lower()
        check_suffix(suffix)
        if suffix != JSONL:
            label = self.manifest.entry(identity).title or fallback
            about = [self.spec.max_characters, label if MEDIA[suffix] in _LABELLED else ""]
            digest = kept.digest if kept else file_digest(path)
            extract = partial(self._read_file, path, label, digest)
            yield Source(identity, MEDIA[suffix], digest, about, fallback, kept, extract)
            return
        for name, digest, found in read_jsonl(path, self.spec.jsonl, identity):
            if isinstance(found, InputError):
                self.quarantined[name] = str(found)
            else:
                yield Source(name, "jsonl", digest, self.spec.jsonl.model_dump(), name, kept, _given(found))

    def _read_file(self, path: Path, label: str, digest: str) -> Extracted:
        extracted = self.reader.read(path, label)
        if file_digest(path) != digest:
            raise ReadingStoppedError("it was changed while it was read: run again")
        return extracted


def _given(extracted: Extracted) -> Callable[[], Extracted]:
    """For what was read on the way: a line or a row."""
    return lambda: extracted


def _files(spec: CorpusSpec, folder: Path) -> dict[str, Path]:
    """Document id → path of the files that the patterns name, sorted; without hidden files, manifest and databases."""
    named = {source_name(table).split("#")[0] for table in spec.sql} | {spec.manifest}
    found: dict[str, Path] = {}
    for path in _matches(spec, folder):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and relative.as_posix() not in named and (path.is_symlink() or not path.is_dir()):
            found[relative.as_posix()] = path
    return dict(sorted(found.items()))


def _matches(spec: CorpusSpec, folder: Path) -> Iterator[Path]:
    for pattern in spec.include:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise InputError(f"corpus.include: {pattern!r} must stay below the documents folder")
        yield from folder.glob(pattern)


def _last_name(address: str) -> str:
    """A title for a document from elsewhere that states none: the last part of its path, else its host."""
    if address.startswith("s3://"):
        return humanize(Path(address).stem)
    parts = urlsplit(address)
    return humanize(Path(unquote(parts.path)).stem) or parts.netloc
