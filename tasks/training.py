"""Tasks around the model: take in the base, make training rows, fine-tune, quantize."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from indexes.build import load_index
from indexes.embedder import EmbedSpec, open_embedder
from indexes.types import Passage
from infra.settings import Policy, Spec, settings
from infra.store import ArtifactRef, folder_manifest, read_lines, value_digest
from models.answering.context import build_context, token_counter
from models.answering.guardrails import GuardPolicy, Guards
from models.answering.pipeline import AnswerSpec
from models.base import local_folder, resolve_model
from models.prompts import Prompt, load_prompt, store_prompt
from models.quantize import Quantized, QuantSpec, quantize
from models.training.data import DataSpec, RowMaker
from models.training.dataset import Dataset, read_dataset, write_dataset
from models.training.sft import train
from models.training.spec import TrainSpec
from models.training.watching import Step
from models.types import Case
from tasks.corpus import chunks_of, splits_of
from tasks.indexing import ACCESS
from tasks.policy import StageResult, artifact_store, progress_logger, stage, stage_key

HELD_BACK = {"validation", "gate"}
"""Splits whose documents and cases no training row may come from."""


def held_back(cases: Iterable[Case], corpus: ArtifactRef) -> set[str]:
    """Ids of the documents that nothing may be learnt from: held-back cases ask about them, or the corpus says so."""
    asked = {name for case in cases if case.split in HELD_BACK for name in case.documents}
    return asked | {name for name, split in splits_of(corpus).items() if split in HELD_BACK}


class ModelSpec(Spec):
    """Section `model` of the policy file."""

    base: str = Field(min_length=1)
    """`starter` (comes with the project), a folder relative to the policy file, or a Hugging Face id (org/name)."""

    def folder(self, policy: Policy) -> Path:
        """Where the model lies, if it is no Hugging Face id."""
        return local_folder(self.base, policy.path.parent)

    def source(self, policy: Policy) -> str:
        """The folder as an absolute path, or the id as it is."""
        folder = self.folder(policy)
        return str(folder) if folder.is_dir() else self.base

    def content(self, policy: Policy) -> str:
        """Digest of a local folder; an id stands for itself."""
        folder = self.folder(policy)
        return value_digest(folder_manifest("model", folder)) if folder.is_dir() else self.base


@stage("models/base.py")
def take_model(model: str, content: str) -> StageResult:
    """A model folder or Hugging Face id as an artifact."""
    with artifact_store().writing("model") as draft:
        resolve_model(model, draft.folder)
        count = sum(1 for path in draft.folder.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in draft.folder.rglob("*"))
    return StageResult(
        refs={"model": draft.stored()}, computed=count, total=count, metrics={"bytes": size}, params={"model": model}
    )


@stage("models/prompts.py")
def take_prompt(prompt: Prompt) -> StageResult:
    """The prompt of the release as an artifact."""
    ref = store_prompt(prompt, artifact_store())
    return StageResult(refs={"prompt": ref}, computed=1, total=1, params={"prompt": f"{prompt.id} {prompt.version}"})


@stage("models/training/data.py", "models/training/dataset.py", "models/training/questions.py", "models/prompts.py")
def make_rows(
    corpus: ArtifactRef,
    chunks: ArtifactRef,
    index: ArtifactRef,
    cases: ArtifactRef,
    prompt: ArtifactRef,
    base: ArtifactRef,
    spec: DataSpec,
    answering: AnswerSpec,
    guards: GuardPolicy,
    embedding: EmbedSpec,
) -> StageResult:
    """Training rows from the train cases and from questions made out of the train documents.

    Passages are found, scanned and chosen exactly as production does it.
    """
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

    known = list(read_lines(store.open(cases) / "cases.jsonl", Case))
    closed = held_back(known, corpus)
    maker = RowMaker(spec, load_prompt(prompt, store), search, list(chunks_of(chunks)))
    from_cases = maker.of_cases([case for case in known if case.split == "train"])
    from_corpus = maker.of_corpus(lambda document: document not in closed)
    rows = [*from_cases, *from_corpus]
    with store.writing("dataset") as draft:
        write_dataset(draft.folder, Dataset(rows))
    counts = {
        "from_cases": len(from_cases),
        "from_corpus": len(from_corpus),
        "refusals": sum(row.refusal for row in rows),
    }
    return StageResult(
        refs={"dataset": draft.stored()},
        computed=len(rows),
        total=len(rows),
        metrics={name: float(value) for name, value in counts.items()},
    )


TRAINING = tuple(
    f"models/training/{name}.py" for name in ("sft", "batches", "methods", "running", "watching", "adapters")
)
"""Modules that decide the weights of a training."""


def _work_folder(name: str, *inputs: ArtifactRef) -> Path:
    """Where a long stage keeps its checkpoints: the same inputs find the same folder after a crash."""
    key = stage_key(name, TRAINING, {"inputs": list(inputs)})
    return settings().home / "work" / key


@stage(*TRAINING, timeout_s=6 * 3600)
def finetune_adapter(base: ArtifactRef, dataset: ArtifactRef, spec: TrainSpec) -> StageResult:
    """The base trained on the dataset's rows; resumes from the last checkpoint of a killed run."""
    store = artifact_store()
    report_progress = progress_logger("finetune", "steps")
    work = _work_folder(f"finetune-{spec.model_dump_json()}", base, dataset)

    def report(step: Step) -> None:
        report_progress(step.step, step.steps)

    made = train(store.open(base), read_dataset(store.open(dataset)), spec, work, report)
    folders = {"adapter": ("adapter", made.adapter), "merged": ("model", made.merged)}
    resumed = [f"resumed from step {made.resumed_from_step}"] if made.resumed_from_step else []
    return StageResult(
        refs={name: store.put(kind, folder) for name, (kind, folder) in folders.items() if folder},
        computed=made.steps - made.resumed_from_step,
        total=made.steps,
        metrics={"tokens": made.tokens, "tokens_per_second": made.tokens_per_second, "final_loss": made.losses[-1][1]},
        params={name: str(value) for name, value in spec.model_dump(mode="json").items()},
        notes=[*resumed, *made.notes],
        curve=made.losses,
    )


@stage("models/quantize.py", timeout_s=3600)
def quantize_model(merged: ArtifactRef, dataset: ArtifactRef, precision: Quantized, spec: QuantSpec) -> StageResult:
    """The merged model at one precision, calibrated on training rows."""
    store = artifact_store()
    rows = read_dataset(store.open(dataset)).rows
    with store.writing("model") as draft:
        report = quantize(store.open(merged), precision, rows, spec, draft.folder)
    return StageResult(
        refs={"model": draft.stored()},
        computed=1,
        total=1,
        metrics={"bytes_on_disk": float(report.bytes_on_disk)},
        params={"precision": precision},
    )
