"""Tasks that make training data: take in files and feedback, ask a teacher, put the dataset together."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from indexes.build import load_index
from indexes.cache import ContentCache
from indexes.embedder import EmbedSpec, open_embedder
from indexes.types import Passage
from infra.records import Records
from infra.settings import settings
from infra.store import ArtifactRef, read_lines
from models.answering.context import build_context, token_counter
from models.answering.guards.guardrails import Guards, personal_data
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec
from models.cases import HELD_BACK
from models.prompts import load_prompt
from models.serving.engine import OpenAIEngine
from models.serving.vllm import EngineSpec
from models.training.asking import Client, TeacherSpec, asking
from models.training.assembly import assemble, counts_of, from_elsewhere, rows_by_rule
from models.training.curation import Refused, summary
from models.training.data import RowMaker, RowSpec
from models.training.data_spec import DataSpec
from models.training.dataset import write_dataset
from models.training.feedback import FeedbackSpec, rated_answers, rows_of_feedback
from models.training.files import FileLimits, FileSpec, gather_files
from models.training.gathered import Gathered, HasPersonal, read_gathered, write_gathered, write_refused
from models.training.teacher import counted
from models.training.teacher_questions import taught_rows
from models.types import Case
from tasks.corpus import SHOWN, chunks_of, splits_of
from tasks.indexing import ACCESS, PROMPTING
from tasks.measuring import deployer
from tasks.policy import StageResult, artifact_store, progress_logger, stage

REPLIES, SPARE = "teacher.sqlite", 100_000
"""File in the state folder that keeps what teachers said, and how many replies that no run used it may hold."""

"""Source that decides what a prompt shows."""


def _sources(*names: str) -> tuple[str, ...]:
    return tuple(f"models/training/{name}.py" for name in names)


BY_RULE = _sources("data", "evidence", "grammar", "patterns", "questions", "rows", "tables")
"""Source that decides what is made out of the corpus by rule."""


def held_back(cases: Iterable[Case], corpus: ArtifactRef) -> set[str]:
    """Ids of the documents that nothing may be learnt from: held-back cases ask about them, or the corpus says so."""
    asked = {name for case in cases if case.split in HELD_BACK for name in case.documents}
    return asked | {name for name, split in splits_of(corpus).items() if split in HELD_BACK}


def _kept(gathered: Gathered, **figures: float) -> StageResult:
    """What a source gave, as an artifact with a table of what was refused of it."""
    with artifact_store().writing("training-rows") as draft:
        write_gathered(draft.folder, gathered)
    return StageResult(
        refs={"rows": draft.stored()},
        computed=len(gathered.rows),
        total=len(gathered.rows) + len(gathered.refused),
        metrics={"rows": len(gathered.rows), "refused": len(gathered.refused), **figures},
        table=[row.model_dump() for row in gathered.refused[:SHOWN]],
        notes=[f"- {count} refused: {reason}" for reason, count in counted(gathered.refused).items()],
    )


@stage(*_sources("files", "formats", "gathered", "rows"))
def take_training_files(files: Sequence[FileSpec], limits: FileLimits, root: str, content: str) -> StageResult:
    """The rows of the training files, their formats told by their content; `content` is their digest now."""
    return _kept(gather_files(files, limits, Path(root)))


def _has_personal(guards: GuardPolicy) -> HasPersonal:
    """What tells whether a text holds personal data."""
    finder = personal_data(guards)
    return lambda text: bool(finder.find(text))


@stage(cached=False)
def take_feedback(prompt: ArtifactRef, guards: GuardPolicy, spec: FeedbackSpec) -> StageResult:
    """Rows and pairs out of the ratings of production as they are now: corrections, and better and worse answers."""
    records = Records.open(settings().database_url)
    answers = rated_answers(records, spec.simulated)
    records.close()
    made = rows_of_feedback(answers, load_prompt(prompt, artifact_store()), _has_personal(guards), spec)
    return _kept(made, rated_answers=len(answers))


def _row_maker(
    chunks: ArtifactRef,
    index: ArtifactRef,
    prompt: ArtifactRef,
    base: ArtifactRef,
    spec: RowSpec,
    answering: AnswerSpec,
    guards: GuardPolicy,
    embedding: EmbedSpec,
) -> RowMaker:
    """Makes rows over passages that are found, scanned and chosen exactly as production does it."""
    store = artifact_store()
    retriever = load_index(store.open(index), open_embedder(embedding), answering.search)
    count, scan = token_counter(store.open(base)), Guards(guards)
    shown = answering.context
    if spec.evidence_sentences is not None:
        shown = shown.model_copy(update={"evidence_sentences": spec.evidence_sentences})

    def search(question: str) -> list[Passage]:
        found = retriever.search(question, ACCESS, answering.search.k)
        safe, _ = scan.passages([passage.chunk for passage in found[: 4 * answering.context.passages]])
        return [Passage(chunk=chunk, score=0.0) for chunk in build_context(safe, question, shown, count)]

    return RowMaker(spec, load_prompt(prompt, store), search, list(chunks_of(chunks)))


def _cases(cases: ArtifactRef) -> list[Case]:
    return list(read_lines(artifact_store().open(cases) / "cases.jsonl", Case))


@contextmanager
def _teacher(spec: TeacherSpec, model: ArtifactRef | None, engine: EngineSpec) -> Iterator[Client]:
    """Address and name of the teacher; one that is served here (`model`) runs until the end of the block."""
    if model is None:
        key = settings().teacher_api_key.get_secret_value()
        yield Client(lambda: OpenAIEngine(spec.endpoint, spec.timeout_s, key), spec.model, spec.endpoint)
        return
    folder = artifact_store().open(model)
    with deployer(engine).engine_for(folder, name="teacher") as placed:
        yield Client(lambda: OpenAIEngine(placed.base_url, spec.timeout_s), placed.model, model.digest)


@stage(*PROMPTING, *BY_RULE, *_sources("asking", "support", "teacher", "teacher_questions"), timeout_s=6 * 3600)
def ask_teacher(
    corpus: ArtifactRef,
    chunks: ArtifactRef,
    index: ArtifactRef,
    cases: ArtifactRef,
    prompt: ArtifactRef,
    base: ArtifactRef,
    teacher: ArtifactRef | None,
    spec: TeacherSpec,
    rows: RowSpec,
    answering: AnswerSpec,
    guards: GuardPolicy,
    embedding: EmbedSpec,
    engine: EngineSpec,
) -> StageResult:
    """A teacher's answers to questions on the documents that may be learnt from, where their passages support them."""
    closed = held_back(_cases(cases), corpus)
    maker = _row_maker(chunks, index, prompt, base, rows, answering, guards, embedding)
    kept = ContentCache(settings().home / REPLIES, spare=SPARE)
    with _teacher(spec, teacher, engine) as client:
        ask = asking(client, spec, kept, progress_logger("teacher", "questions"))
        return _kept(taught_rows(maker, lambda document: document not in closed, ask, _has_personal(guards), spec))


@stage(*PROMPTING, *BY_RULE, *_sources("assembly", "contamination", "curation", "dataset", "gathered", "pairs"))
def make_rows(
    corpus: ArtifactRef,
    chunks: ArtifactRef,
    index: ArtifactRef,
    cases: ArtifactRef,
    prompt: ArtifactRef,
    base: ArtifactRef,
    files: ArtifactRef | None,
    feedback: ArtifactRef | None,
    taught: ArtifactRef | None,
    spec: DataSpec,
    answering: AnswerSpec,
    guards: GuardPolicy,
    embedding: EmbedSpec,
) -> StageResult:
    """The dataset: rows by rule from the train cases and documents, and rows from elsewhere, curated and split."""
    store = artifact_store()
    known = _cases(cases)
    closed = held_back(known, corpus)
    maker = _row_maker(chunks, index, prompt, base, spec, answering, guards, embedding)
    made = rows_by_rule(maker, [case for case in known if case.split == "train"], closed, spec)
    elsewhere = [read_gathered(store.open(ref)) for ref in (files, feedback, taught) if ref]
    others = from_elsewhere(elsewhere, maker.prompt)
    dataset, refused = assemble(made, others, [case for case in known if case.split in HELD_BACK], closed, spec)
    with store.writing("dataset") as draft:
        write_dataset(draft.folder, dataset)
    counts = counts_of(dataset)
    return StageResult(
        refs={"dataset": draft.stored(), "report": _report(refused)},
        computed=len(dataset.rows),
        total=len(dataset.rows) + len(refused),
        metrics={**counts, "refused": len(refused)},
        table=summary(refused),
        notes=[f"- {count} {name}" for name, count in counts.items() if count],
    )


def _report(refused: Iterable[Refused]) -> ArtifactRef:
    """Every row that was refused, with the reason."""
    with artifact_store().writing("refused-rows") as draft:
        write_refused(draft.folder, refused)
    return draft.stored()
