"""Tasks of quantization: the merged model at one precision, and what its weights take."""

from pydantic import BaseModel, ConfigDict

from infra.settings import settings
from infra.store import ArtifactRef
from models.base import read_config
from models.quantizing.make import quantize, weights_bytes
from models.quantizing.methods import Quantized, is_served
from models.quantizing.spec import MakeSpec
from models.release import ModelPart, Release
from models.serving.architectures import read_shape
from models.serving.capacity import logged_weights, planned_weights, safe_concurrency
from models.serving.vllm import EngineSpec, vllm_build
from models.training.dataset import read_dataset
from tasks.measuring import deployer
from tasks.policy import StageResult, artifact_store, stage


class Weights(BaseModel):
    """What the weights of one precision take."""

    model_config = ConfigDict(frozen=True)

    bytes_on_disk: int
    bytes_in_memory: int
    memory_from: str
    """Who says so: `engine log` or `planner`."""
    safe_concurrency: int
    """Requests of the engine's longest context that fit at once without preemption."""


def bytes_on_disk(model: ModelPart) -> int:
    """Bytes of a release's weights (base and adapter) as they are packed."""
    store = artifact_store()
    return sum(weights_bytes(store.open(part)) for part in (model.base, model.adapter) if part)


@stage("models/quantizing", timeout_s=3600)
def quantize_model(merged: ArtifactRef, dataset: ArtifactRef, precision: Quantized, spec: MakeSpec) -> StageResult:
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


@stage("models/quantizing", "models/serving")
def weigh(release: Release, merged: ArtifactRef, engine: EngineSpec, spec: MakeSpec) -> StageResult:
    """Bytes of a release's weights on disk and in memory, and the requests that then fit at once."""
    store, precision = artifact_store(), release.model.precision
    folder = store.open(merged)
    shape = read_shape(*read_config(str(folder), folder))
    logged = logged_weights(deployer(engine).log(release.model)) if is_served(precision) else None
    planned = planned_weights(shape, precision, engine, spec.group_size)
    memory = planned if logged is None else logged
    weights = Weights(
        bytes_on_disk=bytes_on_disk(release.model),
        bytes_in_memory=memory,
        memory_from="planner" if logged is None else "engine log",
        safe_concurrency=safe_concurrency(shape, memory, engine, vllm_build(settings()), spec.group_size),
    )
    return StageResult(computed=1, total=1, params={"weights": weights.model_dump_json()}, table=[weights.model_dump()])


def weights_of(result: StageResult) -> Weights:
    """What `weigh` found."""
    return Weights.model_validate_json(result.params["weights"])
