"""From files, tables, web pages and buckets to documents: each is used, quarantined with a reason, or superseded."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from indexes.cache import ContentCache, NoCache
from indexes.loaders.bucket import fetch_objects
from indexes.loaders.extracted import Extracted
from indexes.loaders.isolated import IsolatedReader, ReadingStoppedError
from indexes.loaders.kept import Kept, KeptFolder
from indexes.loaders.manifest import Manifest, load_manifest
from indexes.loaders.ordinary import REASON_LIMIT, printable
from indexes.loaders.sources import Source, Sources
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from indexes.loaders.spool import OpenCorpus, Spool
from indexes.loaders.web import fetch_pages
from indexes.types import Document, Quarantined
from infra.errors import InputError
from infra.settings import Spec
from infra.store import code_version


def fetch_sources(spec: CorpusSpec, folder: Path) -> list[Kept]:
    """Bring `folder` up to date with the web pages and buckets of the spec: afterwards it holds them and no others.

    Raises: SetupError or TryAgainError when a bucket cannot be used. A page or object that cannot be had has a reason.
    """
    copies = KeptFolder(folder)
    pages = fetch_pages(spec.web, spec.web_limits, spec.max_bytes, copies)
    kept = [*pages, *fetch_objects(spec.buckets, spec.max_bytes, copies)]
    copies.keep_only(kept)
    return copies.all()


@contextmanager
def open_corpus(
    spec: CorpusSpec, root: Path, copies: KeptFolder | None = None, cache: ContentCache | None = None
) -> Iterator[OpenCorpus]:
    """Read every document of the spec; `root` is the policy file's folder. Same input, same result, same order.

    Web pages and objects are read from `copies`, as fetch_sources left them: nothing here uses the network. The text
    of what was read before is taken from `cache`.

    Raises: InputError when the folder or the manifest is wrong or nothing usable is left; PolicyError for a wrong
    table. Single bad documents raise nothing: they are in `quarantined`.
    """
    assert copies is not None or not (spec.web or spec.buckets), "fetch_sources comes first"
    folder = (root / spec.documents).resolve()
    if not folder.is_dir():
        raise InputError(f"corpus.documents: {folder} is not a folder; name the folder of your documents")
    manifest = load_manifest(folder / spec.manifest)
    with IsolatedReader(spec.seconds_per_document, spec.memory_mb, spec.max_characters) as reader, Spool() as spool:
        sources = Sources(spec, folder, manifest, reader)
        collector = _Collector(spec, manifest, spool)
        every = chain(sources.files(), sources.rows(), sources.copies(copies) if copies is not None else ())
        collector.read(every, cache or NoCache())
        yield collector.result(folder, sources.quarantined | collector.quarantined | sources.missing())


def load_corpus(spec: CorpusSpec, root: Path, copies: KeptFolder | None = None) -> LoadedCorpus:
    """The corpus of open_corpus with its documents in memory."""
    with open_corpus(spec, root, copies) as found:
        return LoadedCorpus(
            documents=[Document.model_validate_json(line) for line in found.lines()],
            quarantined=found.quarantined,
            superseded=found.superseded,
            splits=found.splits,
        )


class _Outcome(Spec):
    """What reading a source came to: its text, or the reason against it."""

    extracted: Extracted | None = None
    reason: str = ""


class _Collector:
    """Gathers documents under unique ids."""

    def __init__(self, spec: CorpusSpec, manifest: Manifest, spool: Spool) -> None:
        self.spec = spec
        self.manifest = manifest
        self.spool = spool
        self.formats: dict[str, str] = {}
        self.replaced = manifest.superseded()
        self.quarantined: dict[str, str] = {}
        self.computed = self.total = 0

    def read(self, sources: Iterator[Source], cache: ContentCache) -> None:
        """Read every source in turn, or take its text from the cache."""
        code = code_version("indexes/loaders")
        for source, outcome, _ in cache.once(
            self._counted(sources), lambda source: f"{code}/{source.content}", self._outcome
        ):
            found = _Outcome.model_validate_json(outcome)
            if found.extracted is None:
                self.quarantined[source.id] = found.reason
            else:
                self._add(source, _judged(found.extracted, source.kept))

    def result(self, folder: Path, quarantined: dict[str, str]) -> OpenCorpus:
        """Documents without the superseded ones, sorted by id."""
        kept = [identity for identity in self.spool if identity not in self.replaced]
        if not kept:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(quarantined.items())[:3])
            raise InputError(f"{folder}: no usable document{f' ({reasons})' if reasons else ''}")
        splits = {identity: self.manifest.entry(identity).split for identity in kept}
        return OpenCorpus(
            ids=kept,
            quarantined=[
                Quarantined(id=printable(name), reason=printable(reason)[:REASON_LIMIT])
                for name, reason in sorted(quarantined.items())
            ],
            superseded=[identity for identity in self.spool if identity in self.replaced],
            splits={identity: split for identity, split in splits.items() if split not in ("", "mixed")},
            formats=Counter(self.formats[identity] for identity in kept),
            computed=self.computed,
            total=self.total,
            spool=self.spool,
        )

    def _counted(self, sources: Iterator[Source]) -> Iterator[Source]:
        for source in sources:
            self.total += 1
            yield source

    def _outcome(self, source: Source) -> bytes | None:
        """What is kept of a source: nothing where not its bytes alone stopped the reader."""
        self.computed += 1
        try:
            outcome = _Outcome(extracted=source.extract())
        except (ReadingStoppedError, OSError) as error:
            self.quarantined[source.id] = str(error)
            return None
        except InputError as error:
            outcome = _Outcome(reason=str(error))
        return outcome.model_dump_json().encode()

    def _add(self, source: Source, extracted: Extracted) -> None:
        identity = source.id
        entry = self.manifest.entry(identity)
        language = entry.language or extracted.language or self.spec.languages[0]
        if identity in self.spool:
            self.quarantined[identity] = "its id is used twice: the first document was kept"
        elif language not in self.spec.languages:
            self.quarantined[identity] = f"language {language!r} is not among {', '.join(self.spec.languages)}"
        elif len(extracted.text) > self.spec.max_characters:
            self.quarantined[identity] = f"more than {self.spec.max_characters} characters of text: split it"
        else:
            document = Document(
                id=identity,
                title=entry.title or extracted.title or source.fallback,
                text=extracted.text,
                media=source.media,
                digest=source.digest,
                date=entry.date or extracted.date,
                access=entry.access or extracted.access or self.spec.default_access,
                language=language,
                supersedes=entry.supersedes or extracted.supersedes,
                sections=extracted.sections,
            )
            self.spool.add(document)
            self.formats[identity] = source.media
            if document.supersedes:
                self.replaced.add(document.supersedes)


def _judged(extracted: Extracted, kept: Kept | None) -> Extracted:
    """What a document from elsewhere may say of itself: the policy's labels come first.

    A web page, which strangers write, says neither who may read it nor what it replaces.
    """
    if kept is None:
        return extracted
    if kept.id.startswith("s3://"):
        return extracted.model_copy(update={"access": kept.access or extracted.access})
    return extracted.model_copy(update={"access": kept.access, "supersedes": None})
