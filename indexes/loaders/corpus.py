"""From a folder and database tables to documents: every source is used, quarantined with a reason, or superseded."""

from collections.abc import Iterator
from pathlib import Path

from indexes.loaders.database import read_table, source_name
from indexes.loaders.extracted import Extracted, humanize
from indexes.loaders.isolated import IsolatedReader
from indexes.loaders.jsonl import read_jsonl
from indexes.loaders.manifest import Manifest, load_manifest
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from indexes.loaders.worker import MEDIA
from indexes.types import Document, Quarantined
from infra.errors import InputError
from infra.store import file_digest

_DATABASES = (".sqlite", ".sqlite3", ".db")


def load_corpus(spec: CorpusSpec, root: Path) -> LoadedCorpus:
    """Read every document of the spec; `root` is the policy file's folder. Same input, same result, same order.

    Raises: InputError when the folder or the manifest is wrong or nothing usable is left; PolicyError for a wrong
    table. Single bad documents raise nothing: they are in `quarantined`.
    """
    folder = (root / spec.documents).resolve()
    if not folder.is_dir():
        raise InputError(f"corpus.documents: {folder} is not a folder; name the folder of your documents")
    collector = _Collector(spec, folder, load_manifest(folder / spec.manifest))
    collector.add_files()
    collector.add_tables()
    return collector.result()


class _Collector:
    """Gathers documents under unique ids."""

    def __init__(self, spec: CorpusSpec, folder: Path, manifest: Manifest) -> None:
        self.spec = spec
        self.folder = folder
        self.manifest = manifest
        self.documents: dict[str, Document] = {}
        self.quarantined: dict[str, str] = {}

    def add_files(self) -> None:
        """Read the files that the patterns name, and report those that only the manifest names."""
        paths = _files(self.spec, self.folder)
        with IsolatedReader(self.spec.seconds_per_document, self.spec.memory_mb) as reader:
            for identity, path in paths.items():
                try:
                    self._add_file(identity, path, reader)
                except (InputError, OSError) as error:
                    self.quarantined[identity] = str(error)
        for name in self.manifest.entries:
            if name.split("#")[0] not in paths and not (self.folder / name.split("#")[0]).is_file():
                self.quarantined[name] = "missing: the manifest names it and the folder has no such file"

    def add_tables(self) -> None:
        """Read the rows of the database tables."""
        for table in self.spec.sql:
            try:
                for row in read_table(table, self.folder):
                    extracted = Extracted(text=row.text, title=row.title)
                    self._add(row.id, "sql", row.digest, extracted, row.title)
            except InputError as error:
                if error.__class__ is not InputError:
                    raise
                self.quarantined[source_name(table)] = str(error)

    def result(self) -> LoadedCorpus:
        """Documents without the superseded ones, sorted by id."""
        replaced = self.manifest.superseded()
        replaced |= {document.supersedes for document in self.documents.values() if document.supersedes}
        kept = [document for identity, document in sorted(self.documents.items()) if identity not in replaced]
        if not kept:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.quarantined.items())[:3])
            raise InputError(f"{self.folder}: no usable document{f' ({reasons})' if reasons else ''}")
        splits = {document.id: self.manifest.entry(document.id).split for document in kept}
        return LoadedCorpus(
            documents=kept,
            quarantined=[Quarantined(id=name, reason=reason) for name, reason in sorted(self.quarantined.items())],
            superseded=sorted(replaced & self.documents.keys()),
            splits={identity: split for identity, split in splits.items() if split not in ("", "mixed")},
        )

    def _add_file(self, identity: str, path: Path, reader: IsolatedReader) -> None:
        _check_file(path, self.folder, self.spec.max_bytes)
        suffix = path.suffix.lower()
        if suffix == ".jsonl":
            for name, digest, found in read_jsonl(path, self.spec.jsonl):
                if isinstance(found, InputError):
                    self.quarantined[name] = str(found)
                else:
                    self._add(name, "jsonl", digest, found, name)
            return
        if suffix not in MEDIA:
            raise InputError(_unsupported(suffix))
        fallback = humanize(path.stem)
        extracted = reader.read(path, self.manifest.entry(identity).title or fallback)
        self._add(identity, MEDIA[suffix], file_digest(path), extracted, fallback)

    def _add(self, identity: str, media: str, digest: str, extracted: Extracted, fallback: str) -> None:
        entry = self.manifest.entry(identity)
        language = entry.language or extracted.language or self.spec.languages[0]
        if identity in self.documents:
            self.quarantined[identity] = "its id is used twice: the first document was kept"
        elif language not in self.spec.languages:
            self.quarantined[identity] = f"language {language!r} is not among {', '.join(self.spec.languages)}"
        elif len(extracted.text) > self.spec.max_characters:
            self.quarantined[identity] = f"more than {self.spec.max_characters} characters of text: split it"
        else:
            self.documents[identity] = Document(
                id=identity,
                title=entry.title or extracted.title or fallback,
                text=extracted.text,
                media=media,
                digest=digest,
                date=entry.date or extracted.date,
                access=entry.access or extracted.access or self.spec.default_access,
                language=language,
                supersedes=entry.supersedes or extracted.supersedes,
                sections=extracted.sections,
            )


def _files(spec: CorpusSpec, folder: Path) -> dict[str, Path]:
    """Document id → path of the files that the patterns name, sorted; without hidden files, manifest and databases."""
    named = {source_name(table).split("#")[0] for table in spec.sql} | {spec.manifest}
    found: dict[str, Path] = {}
    for path in _matches(spec, folder):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and relative.as_posix() not in named and (path.is_file() or path.is_symlink()):
            found[relative.as_posix()] = path
    return dict(sorted(found.items()))


def _matches(spec: CorpusSpec, folder: Path) -> Iterator[Path]:
    for pattern in spec.include:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise InputError(f"corpus.include: {pattern!r} must stay below the documents folder")
        yield from folder.glob(pattern)


def _check_file(path: Path, folder: Path, max_bytes: int) -> None:
    if not path.resolve().is_relative_to(folder):
        raise InputError("a link out of the documents folder: copy the file in")
    size = path.stat().st_size
    if size == 0:
        raise InputError("empty: the file has zero bytes")
    if size > max_bytes:
        raise InputError(f"{size} bytes are more than the limit of {max_bytes}: split it or raise corpus.max_bytes")


def _unsupported(suffix: str) -> str:
    if suffix in _DATABASES:
        return "a database: name its tables under corpus.sql"
    if suffix in (".docm", ".dotm", ".xlsm"):
        return "holds macros: save it as .docx without them"
    if suffix == ".doc":
        return "an old Word file: save it as .docx"
    return f"format {suffix or 'without a suffix'} is not read: convert it to {', '.join(sorted(MEDIA))} or .jsonl"
