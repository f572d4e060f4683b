"""Tasks around the model: take in the base, fine-tune, teach preferences, see what was forgotten."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from evaluation.forgetting import ForgettingSpec, check_forgetting
from evaluation.plots import loss_picture
from evaluation.preference import preference_figures
from infra.errors import InputError
from infra.settings import Policy, Spec, settings
from infra.store import ArtifactRef, canonical_json, folder_manifest, value_digest, write_atomic
from models.base import local_folder, resolve_model
from models.prompts import Prompt, store_prompt
from models.training.dataset import PAIRS, read_dataset
from models.training.preferences import prefer
from models.training.sft import train
from models.training.spec import PreferenceSpec, TrainSpec
from models.training.watching import Progress, Step
from tasks.live import report_live
from tasks.policy import StageResult, artifact_store, progress_logger, stage, stage_key

Curve = Sequence[tuple[int, float]]
"""(step, loss)."""


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


@stage("models/prompts.py", "models/marks.py")
def take_prompt(prompt: Prompt) -> StageResult:
    """The prompt of the release as an artifact."""
    ref = store_prompt(prompt, artifact_store())
    return StageResult(refs={"prompt": ref}, computed=1, total=1, params={"prompt": f"{prompt.id} {prompt.version}"})


TRAINING = tuple(
    f"models/training/{name}.py" for name in ("spec", "sft", "batches", "methods", "running", "watching", "adapters")
)
"""Modules that decide the weights of a training."""


def work_folder(name: str, code: tuple[str, ...], spec: Spec, *inputs: ArtifactRef) -> Path:
    """Where a long stage keeps its checkpoints: the same code and inputs find the same folder after a crash."""
    key = stage_key(name, code, {"spec": spec, "inputs": list(inputs)})
    return settings().home / "work" / key


def _reporter(name: str) -> Progress:
    """Progress of a training on the run's page, its figures live in MLflow."""
    done = progress_logger(name, "steps")

    def report(step: Step) -> None:
        done(step.step, step.steps)
        report_live(step.step, step.figures)

    return report


def _stored_report(report: BaseModel, losses: Curve, validation: Curve = ()) -> ArtifactRef:
    """The report with its loss curve. Folders of this machine do not belong in it."""
    with artifact_store().writing("training-report") as draft:
        told = report.model_dump(mode="json", exclude={"adapter", "merged"})
        write_atomic(draft.folder / "training.json", canonical_json(told))
        write_atomic(draft.folder / "loss.svg", loss_picture(losses, validation))
    return draft.stored()


@stage(*TRAINING, timeout_s=6 * 3600)
def finetune_adapter(base: ArtifactRef, dataset: ArtifactRef, spec: TrainSpec) -> StageResult:
    """The base trained on the dataset's rows; resumes from the last checkpoint of a killed run."""
    store = artifact_store()
    work = work_folder("finetune", TRAINING, spec, base, dataset)
    made = train(store.open(base), read_dataset(store.open(dataset)), spec, work, _reporter("finetune"))
    folders = {"adapter": ("adapter", made.adapter), "merged": ("model", made.merged)}
    refs = {name: store.put(kind, folder) for name, (kind, folder) in folders.items() if folder}
    last = {f"validation_loss_{name}": loss for name, loss in _ends(made.validation_losses)}
    return StageResult(
        refs=refs | {"report": _stored_report(made, made.losses, made.validation_losses)},
        computed=made.steps - made.resumed_from_step,
        total=made.steps,
        metrics={
            "tokens": made.tokens,
            "tokens_per_second": made.tokens_per_second,
            "final_loss": made.losses[-1][1],
            "trained_parameters": made.trained_parameters,
            **last,
        },
        params=_params(spec) | {"learning_rate": str(spec.rate)},
        notes=[*_resumed(made.resumed_from_step), *made.notes],
        curve=made.losses,
    )


@stage(*TRAINING, "models/training/preferences.py", "evaluation/preference.py", timeout_s=6 * 3600)
def prefer_adapter(model: ArtifactRef, dataset: ArtifactRef, spec: PreferenceSpec) -> StageResult:
    """The fine-tuned model taught the dataset's preferences; resumes as `finetune_adapter` does."""
    store = artifact_store()
    work = work_folder("prefer", TRAINING, spec, model, dataset)
    made = prefer(store.open(model), read_dataset(store.open(dataset)), spec, work, _reporter("prefer"))
    figures = preference_figures(made.margins, spec.beta)
    return StageResult(
        refs={
            "adapter": store.put("adapter", made.adapter),
            "merged": store.put("model", made.merged),
            "report": _stored_report(made, made.losses),
        },
        computed=made.steps - made.resumed_from_step,
        total=made.steps,
        metrics={"pairs": made.pairs, "pairs_too_long": made.pairs_too_long, "final_loss": made.losses[-1][1]},
        params=_params(spec),
        table=figures,
        notes=[
            *_resumed(made.resumed_from_step),
            *made.notes,
            *([] if figures else ["no validation pairs: whether the preference moved was not measured"]),
        ],
        curve=made.losses,
    )


def has_pairs(dataset: ArtifactRef) -> bool:
    """Whether a dataset has preference pairs to learn from."""
    return (artifact_store().open(dataset) / PAIRS).stat().st_size > 0


def _params(spec: Spec) -> dict[str, str]:
    return {name: str(value) for name, value in spec.model_dump(mode="json").items()}


def _resumed(step: int) -> list[str]:
    return [f"resumed from step {step}"] if step else []


def _ends(curve: Curve) -> list[tuple[str, float]]:
    return [("first", curve[0][1]), ("last", curve[-1][1])] if curve else []


@stage("evaluation/forgetting.py", "models/serving/generation.py", "models/starter/reading.py", timeout_s=2 * 3600)
def measure_forgetting(
    base: ArtifactRef, tuned: ArtifactRef, adapter: ArtifactRef | None, spec: ForgettingSpec
) -> StageResult:
    """General reading tasks before and after the training; a fall beyond the margin fails the stage."""
    store = artifact_store()
    found = check_forgetting(store.open(base), store.open(tuned), store.open(adapter) if adapter else None, spec)
    if objection := found.objection(spec):
        raise InputError(objection)
    return StageResult(
        computed=spec.tasks,
        total=spec.tasks,
        metrics={"before": found.before, "after": found.after, "difference": found.difference.mean},
        table=[{"before": found.before, "after": found.after, **found.difference.model_dump(mode="json")}],
        notes=[f"{len(found.forgot)} of {spec.tasks} general reading tasks were right before and are wrong now"],
    )
