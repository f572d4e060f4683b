"""Tasks from files to checked chunks: read, validate, chunk, validate again; and the cases that measure the result."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from indexes.cache import ContentCache, EmbeddingCache
from indexes.changes import Change, changes, digests_of
from indexes.chunkers.spec import ChunkSpec
from indexes.chunking import chunks_in, write_chunks
from indexes.corpus import documents_in, splits_in, write_corpus, write_without
from indexes.duplicates import Duplicate, DuplicateSpec, find_duplicates
from indexes.embedder import CachedEmbedder, EmbedSpec, open_embedder
from indexes.expectations import ValidationReport
from indexes.loaders.corpus import fetch_sources, open_corpus
from indexes.loaders.database import read_table
from indexes.loaders.kept import KeptFolder
from indexes.loaders.spec import CorpusSpec, SqlTable
from indexes.sketches import Sketches
from indexes.types import Chunk, Document
from indexes.validation import ValidationSpec, validate_chunks, validate_documents
from infra.errors import InputError, PolicyError
from infra.settings import Spec, settings
from infra.store import (
    ArtifactRef,
    StoredLines,
    canonical_json,
    code_version,
    file_digest,
    folder_manifest,
    value_digest,
    write_atomic,
    write_lines,
)
from models.answering.guards.guardrails import personal_data
from models.answering.guards.policy import GuardPolicy
from models.cases import CaseSpec, check_splits, load_cases
from tasks.policy import StageResult, artifact_store, stage

VALIDATION = ("indexes/validation.py", "indexes/expectations.py", "indexes/sketches.py", "indexes/pages.py")
"""Source that decides what a validation says."""
TRAFFIC = "traffic"
"""Split name of the cases that the simulated user asks."""
SHOWN = 200
"""Rows of a table; the artifact has all of them."""


def content_of(*paths: Path) -> str:
    """Digest of files and folders as they are now: the part of a key that no spec shows."""
    return value_digest([file_digest(path) if path.is_file() else _folder_content(path) for path in paths])


def _folder_content(folder: Path) -> str:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder; check the paths in the policy")
    return value_digest(folder_manifest("source", folder))


def corpus_content(spec: CorpusSpec, root: Path) -> str:
    """Digest of what a corpus is read from: every file of its folder, and rows, web pages and objects elsewhere.

    Pages and objects are fetched here, if they changed, and read_corpus reads what was fetched: a page counts by its
    bytes, an object by its etag, and one that cannot be had by the reason.

    Raises: InputError when the folder is missing, PolicyError for a wrong table, SetupError or TryAgainError when a
    bucket cannot be used.
    """
    folder = (root / spec.documents).resolve()
    elsewhere = [kept.version for kept in fetch_sources(spec, _copies())]
    return value_digest([content_of(folder), *(_table_content(table, folder) for table in spec.sql), *elsewhere])


def _copies() -> Path:
    """Folder with the copies of web pages and objects."""
    return settings().home / "sources"


def _table_content(table: SqlTable, folder: Path) -> list[list[str]]:
    """Ids and digests of the rows; for a database that cannot be read, why: the loader quarantines it for that."""
    try:
        return [[row.id, row.digest] for row in read_table(table, folder)]
    except PolicyError:
        raise
    except InputError as error:
        return [[str(error)]]


def _cache(name: str) -> ContentCache:
    """What is kept of single documents: `name` says what."""
    return ContentCache(settings().home / "documents" / f"{name}.sqlite")


@stage("indexes/loaders", "indexes/corpus.py", "indexes/types.py")
def read_corpus(spec: CorpusSpec, root: str, content: str) -> StageResult:
    """Read every document; `content` is the corpus_content of now, which also fetched pages and objects."""
    with (
        open_corpus(spec, Path(root), KeptFolder(_copies()), _cache("read")) as found,
        artifact_store().writing("corpus") as draft,
    ):
        write_corpus(found, draft.folder)
    return StageResult(
        refs={"corpus": draft.stored()},
        computed=found.computed,
        total=found.total,
        metrics={
            "documents": len(found.ids),
            "quarantined": len(found.quarantined),
            "superseded": len(found.superseded),
        },
        table=[{"document": item.id, "reason": item.reason} for item in found.quarantined[:SHOWN]],
        notes=[
            f"{found.computed} of {found.total} documents read, the text of the others was kept",
            *(f"- {count} {media}" for media, count in sorted(found.formats.items())),
            *_more(len(found.quarantined), "quarantined documents"),
        ],
    )


def documents_of(corpus: ArtifactRef) -> StoredLines[Document]:
    """The documents of a corpus artifact."""
    return documents_in(artifact_store().open(corpus))


class LastCorpus(Spec):
    """last.json: the corpus of the last run. Where its digest is that of now, no document has to be read."""

    corpus: str = ""
    documents: dict[str, str] = Field(default_factory=dict)
    """Document id → digest of its bytes."""


def corpus_changes(corpus: ArtifactRef) -> list[Change]:
    """What differs from the corpus of the last run on this state folder, which this one is from now on."""
    kept = settings().home / "documents" / "last.json"
    last = LastCorpus()
    if kept.is_file():
        with suppress(ValueError):  # a damaged note: everything counts as new
            last = LastCorpus.model_validate_json(kept.read_text("utf-8"))
    if last.corpus == corpus.digest:
        return []
    after = digests_of(documents_of(corpus))
    write_atomic(kept, canonical_json(LastCorpus(corpus=corpus.digest, documents=after).model_dump()))
    return changes(last.documents, after)


def splits_of(corpus: ArtifactRef) -> dict[str, str]:
    """Document id → split, where the corpus says so."""
    return splits_in(artifact_store().open(corpus))


def chunks_of(chunks: ArtifactRef) -> StoredLines[Chunk]:
    """The chunks of a chunk set."""
    return chunks_in(artifact_store().open(chunks))


@stage("indexes/duplicates.py", "indexes/sketches.py", "indexes/types.py")
def drop_duplicates(corpus: ArtifactRef, spec: DuplicateSpec) -> StageResult:
    """Name the documents that repeat newer ones, and take those out of the corpus that the spec drops."""
    documents = documents_of(corpus)
    sketches = Sketches(_cache("sketches"))
    found = find_duplicates(documents, spec, sketches)
    dropped = {duplicate.id for duplicate in found if duplicate.dropped}
    store = artifact_store()
    with store.writing("duplicates") as draft:
        write_lines(draft.folder / "duplicates.jsonl", found)
    shown = sorted(found, key=lambda duplicate: not duplicate.dropped)
    told = f"{sketches.computed} of {len(documents)} documents sketched, the sketches of the others were kept"
    return StageResult(
        refs={"corpus": _without(corpus, dropped) if dropped else corpus, "duplicates": draft.stored()},
        computed=sketches.computed,
        total=len(documents),
        metrics={
            "documents": len(documents) - len(dropped),
            "duplicates_dropped": len(dropped),
            "duplicates_kept": len(found) - len(dropped),
        },
        table=[_duplicate_row(duplicate) for duplicate in shown[:SHOWN]],
        notes=[told, *_more(len(found), "duplicates")],
    )


def _more(count: int, what: str) -> list[str]:
    """A note on the rows that a table does not show."""
    return [f"- {count - SHOWN} {what} more in the artifact"] if count > SHOWN else []


def _duplicate_row(duplicate: Duplicate) -> dict[str, str | float]:
    return {
        "document": duplicate.id,
        "repeats": duplicate.kept,
        "similarity": duplicate.similarity,
        "outcome": "dropped" if duplicate.dropped else "kept",
        "reason": duplicate.reason,
    }


def _without(corpus: ArtifactRef, dropped: set[str]) -> ArtifactRef:
    """The corpus without some of its documents; what else it says stays as it is."""
    store = artifact_store()
    with store.writing("corpus") as draft:
        write_without(store.open(corpus), dropped, draft.folder)
    return draft.stored()


def _judged(report: ValidationReport, ref: ArtifactRef, total: int, place: Callable[[str], str] = str) -> StageResult:
    """A validation as a stage result; a failing suite stops the flow with its rows named, by their `place`."""
    if not report.success:
        rows = "; ".join(
            f"{failure.expectation}: {', '.join(map(place, failure.rows[:5]))}" for failure in report.failures
        )
        raise InputError(
            f"{report.suite} failed validation: {rows}; mend them, or change the bound or its level in section "
            f"`validation` of the policy; see {ref.uri}/files/index.html"
        )
    return StageResult(
        refs={"data-docs": ref},
        computed=total,
        total=total,
        metrics={"expectations": report.expectations, "warnings": len(report.warnings)},
        table=[{"warning": item.expectation, "rows": ", ".join(map(place, item.rows[:5]))} for item in report.warnings],
    )


@stage(*VALIDATION, "models/answering/guards/personal.py")
def check_documents(corpus: ArtifactRef, spec: ValidationSpec, guards: GuardPolicy | None = None) -> StageResult:
    """Great Expectations over the documents, with Data Docs kept as an artifact. `guards` says what is personal."""
    documents = documents_of(corpus)
    finder = personal_data(guards) if guards else None
    count = (lambda text: len(finder.find(text))) if finder else None
    version = value_digest(
        [guards and guards.model_dump(mode="json"), code_version("models/answering/guards/personal.py")]
    )
    with artifact_store().writing("data-docs") as draft:
        report = validate_documents(documents, spec, draft.folder, count, _cache("personal"), version)
    return _judged(report, draft.stored(), len(documents))


@stage("indexes/chunkers", "indexes/chunking.py", "indexes/embedder.py", "indexes/types.py")
def chunk_corpus(
    corpus: ArtifactRef, spec: ChunkSpec, tokenizer: ArtifactRef, embedding: EmbedSpec | None
) -> StageResult:
    """Cut every document into chunks, counted in tokens of the model's tokenizer; `embedding` where meanings count."""
    store = artifact_store()
    vectors = EmbeddingCache(settings().home / "embeddings")
    embedder = CachedEmbedder(open_embedder(embedding), vectors) if embedding else None
    with store.writing("chunks") as draft:
        model = store.open(tokenizer)
        cut = write_chunks(documents_of(corpus), spec, model, draft.folder, _cache("chunks"), embedder)
    return StageResult(
        refs={"chunks": draft.stored()},
        computed=cut.computed,
        total=cut.chunks,
        metrics={"chunks": cut.chunks, "tokens_mean": cut.tokens / cut.chunks, "tokens_max": cut.tokens_max},
        notes=[f"{cut.computed} of {cut.chunks} chunks cut, those of unchanged documents were kept"],
    )


@stage(*VALIDATION)
def check_chunks(chunks: ArtifactRef, spec: ValidationSpec) -> StageResult:
    """Great Expectations over the chunks."""
    rows = chunks_of(chunks)
    with artifact_store().writing("data-docs") as draft:
        report = validate_chunks(rows, spec, draft.folder)
    broken = {row for failure in (*report.failures, *report.warnings) for row in failure.rows}
    places = {chunk.id: f"{chunk.document} at {chunk.start} ({chunk.id})" for chunk in rows if chunk.id in broken}
    return _judged(report, draft.stored(), len(rows), lambda row: places.get(row, row))


@stage("models/cases.py", "models/types.py")
def read_cases(spec: CaseSpec, traffic: CaseSpec | None, root: str, content: str) -> StageResult:
    """The cases of every split, checked line by line and for leaks between splits, and the traffic to replay."""
    cases = load_cases(spec, Path(root))
    check_splits(cases)
    replayed = (
        [case.model_copy(update={"split": TRAFFIC}) for case in load_cases(traffic, Path(root))] if traffic else []
    )
    rows = [*cases, *replayed]
    with artifact_store().writing("cases") as draft:
        write_lines(draft.folder / "cases.jsonl", rows)
    counts = {f"cases_{split}": float(count) for split, count in Counter(case.split for case in rows).items()}
    return StageResult(refs={"cases": draft.stored()}, computed=len(rows), total=len(rows), metrics=counts)
