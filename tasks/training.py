"""Tasks around the model: take in the base, fine-tune, quantize."""

from pathlib import Path

from pydantic import Field

from infra.settings import Policy, Spec, settings
from infra.store import ArtifactRef, folder_manifest, value_digest
from models.base import local_folder, resolve_model
from models.prompts import Prompt, store_prompt
from models.quantize import Quantized, QuantSpec, quantize
from models.training.dataset import read_dataset
from models.training.sft import TrainSpec, train_adapter
from tasks.policy import StageResult, artifact_store, progress_logger, stage, stage_key


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


def _work_folder(name: str, *inputs: ArtifactRef) -> Path:
    """Where a long stage keeps its checkpoints: the same inputs find the same folder after a crash."""
    key = stage_key(name, ("models/training/sft.py",), {"inputs": list(inputs)})
    return settings().home / "work" / key


@stage("models/training/sft.py", timeout_s=6 * 3600)
def finetune_adapter(base: ArtifactRef, dataset: ArtifactRef, spec: TrainSpec) -> StageResult:
    """QLoRA on the base; resumes from the last checkpoint of a killed run."""
    store = artifact_store()
    rows = read_dataset(store.open(dataset)).rows
    report_progress = progress_logger("finetune", "steps")
    work = _work_folder(f"finetune-{spec.model_dump_json()}", base, dataset)

    def report(step: int, steps: int, _loss: float) -> None:
        report_progress(step, steps)

    made = train_adapter(store.open(base), rows, spec, work, report)
    adapter, merged = store.put("adapter", made.adapter), store.put("model", made.merged)
    resumed = [f"resumed from step {made.resumed_from_step}"] if made.resumed_from_step else []
    return StageResult(
        refs={"adapter": adapter, "merged": merged},
        computed=made.steps - made.resumed_from_step,
        total=made.steps,
        metrics={"tokens": made.tokens, "tokens_per_second": made.tokens_per_second, "final_loss": made.losses[-1][1]},
        params={name: str(value) for name, value in spec.model_dump(mode="json").items()},
        notes=resumed,
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
