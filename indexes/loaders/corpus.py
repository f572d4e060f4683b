"""From files, tables, web pages and buckets to documents: each is used, quarantined with a reason, or superseded."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from indexes.loaders.bucket import fetch_objects
from indexes.loaders.database import read_table, source_name
from indexes.loaders.extracted import Extracted, humanize
from indexes.loaders.formats import JSONL, MEDIA, check_suffix
from indexes.loaders.isolated import IsolatedReader
from indexes.loaders.jsonl import read_jsonl
from indexes.loaders.kept import Kept, KeptFolder
from indexes.loaders.manifest import Manifest, load_manifest
from indexes.loaders.ordinary import REASON_LIMIT, check_file, check_name, printable
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from indexes.loaders.web import fetch_pages
from indexes.types import Document, Quarantined
from infra.errors import InputError
from infra.store import file_digest


def fetch_sources(spec: CorpusSpec, folder: Path) -> list[Kept]:
    """Bring `folder` up to date with the web pages and buckets of the spec: afterwards it holds them and no others.

    Raises: SetupError or TryAgainError when a bucket cannot be used. A page or object that cannot be had has a reason.
    """
    copies = KeptFolder(folder)
    pages = fetch_pages(spec.web, spec.web_limits, spec.max_bytes, copies)
    kept = [*pages, *fetch_objects(spec.buckets, spec.max_bytes, copies)]
    copies.keep_only(kept)
    return copies.all()


def load_corpus(spec: CorpusSpec, root: Path, copies: KeptFolder | None = None) -> LoadedCorpus:
    """Read every document of the spec; `root` is the policy file's folder. Same input, same result, same order.

    Web pages and objects are read from `copies`, as fetch_sources left them: nothing here uses the network.

    Raises: InputError when the folder or the manifest is wrong or nothing usable is left; PolicyError for a wrong
    table. Single bad documents raise nothing: they are in `quarantined`.
    """
    assert copies is not None or not (spec.web or spec.buckets), "fetch_sources comes first"
    folder = (root / spec.documents).resolve()
    if not folder.is_dir():
        raise InputError(f"corpus.documents: {folder} is not a folder; name the folder of your documents")
    collector = _Collector(spec, folder, load_manifest(folder / spec.manifest))
    with IsolatedReader(spec.seconds_per_document, spec.memory_mb, spec.max_characters) as reader:
        collector.add_files(reader)
        collector.add_tables()
        if copies is not None:
            collector.add_copies(copies, reader)
    collector.add_missing()
    return collector.result()


class _Collector:
    """Gathers documents under unique ids."""

    def __init__(self, spec: CorpusSpec, folder: Path, manifest: Manifest) -> None:
        self.spec = spec
        self.folder = folder
        self.manifest = manifest
        self.documents: dict[str, Document] = {}
        self.quarantined: dict[str, str] = {}
        self.named: set[str] = set()

    def add_files(self, reader: IsolatedReader) -> None:
        """Read the files that the patterns name."""
        for identity, path in _files(self.spec, self.folder).items():
            self.named.add(identity)
            try:
                check_name(identity)
                check_file(path, self.folder, self.spec.max_bytes)
                self._read(identity, path, humanize(path.stem), reader)
            except (InputError, OSError) as error:
                self.quarantined[identity] = str(error)

    def add_copies(self, copies: KeptFolder, reader: IsolatedReader) -> None:
        """Read the kept copies of web pages and objects."""
        for kept in copies.all():
            self.named.add(kept.id)
            try:
                check_name(kept.id)
                if kept.reason:
                    raise InputError(kept.reason)
                path = copies.path(kept)
                if file_digest(path) != kept.digest:
                    raise InputError(f"its kept copy was changed: delete {path} and run again")
                self._read(kept.id, path, _last_name(kept.id), reader, kept)
            except (InputError, OSError) as error:
                self.quarantined[kept.id] = str(error)

    def add_missing(self) -> None:
        """Report the documents that only the manifest names."""
        for name in self.manifest.entries:
            source = name.split("#")[0]
            if not self.named & {name, source} and not (self.folder / source).is_file():
                self.quarantined[name] = "missing: the manifest names it and no source of the corpus has it"

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
            quarantined=[
                Quarantined(id=printable(name), reason=printable(reason)[:REASON_LIMIT])
                for name, reason in sorted(self.quarantined.items())
            ],
            superseded=sorted(replaced & self.documents.keys()),
            splits={identity: split for identity, split in splits.items() if split not in ("", "mixed")},
        )

    def _read(self, identity: str, path: Path, fallback: str, reader: IsolatedReader, kept: Kept | None = None) -> None:
        """Add the document or documents of one file; `fallback` is their title."""
        suffix = path.suffix.lower()
        check_suffix(suffix)
        if suffix != JSONL:
            extracted = reader.read(path, self.manifest.entry(identity).title or fallback)
            digest = kept.digest if kept else file_digest(path)
            self._add(identity, MEDIA[suffix], digest, _judged(extracted, kept), fallback)
            return
        for name, digest, found in read_jsonl(path, self.spec.jsonl, identity):
            if isinstance(found, InputError):
                self.quarantined[name] = str(found)
            else:
                self._add(name, "jsonl", digest, _judged(found, kept), name)

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


def _judged(extracted: Extracted, kept: Kept | None) -> Extracted:
    """What a document from elsewhere may say of itself: the policy's labels come first.

    A web page, which strangers write, says neither who may read it nor what it replaces.
    """
    if kept is None:
        return extracted
    if kept.id.startswith("s3://"):
        return extracted.model_copy(update={"access": kept.access or extracted.access})
    return extracted.model_copy(update={"access": kept.access, "supersedes": None})
