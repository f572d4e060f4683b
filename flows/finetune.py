"""Flow: training rows from the train cases and the corpus → QLoRA → adapter and merged model."""

from prefect import flow

from flows.index import index_stages
from flows.recording import Recording, RunSpec, Summary, recording
from indexes.embedder import EmbedSpec
from infra.store import ArtifactRef
from models.answering.guardrails import GuardPolicy
from models.answering.pipeline import AnswerSpec
from models.training.data import DataSpec
from models.training.spec import TrainSpec
from tasks.training import finetune_adapter, make_rows


class FinetuneSpec(RunSpec):
    """What a data scientist may change for one run; where None stands, the policy file decides."""

    adapter: TrainSpec | None = None
    """How the adapter is trained. None: section `training` of the policy file; else the values here, all of them."""
    data: DataSpec | None = None
    """How training rows are made. None: section `training_data` of the policy file; else the values here, all."""


def row_stages(run: Recording, data: DataSpec, label: str = "") -> ArtifactRef:
    """Rows out of the cases and the corpus."""
    return run.run(
        make_rows,
        label,
        corpus=run.ref("drop-duplicates", "corpus"),
        chunks=run.ref("chunk-corpus", "chunks"),
        index=run.ref("build", "index"),
        cases=run.ref("read-cases", "cases"),
        prompt=run.ref("take-prompt", "prompt"),
        base=run.ref("take-model", "model"),
        spec=data,
        answering=run.policy.section("answering", AnswerSpec),
        guards=run.policy.section("guards", GuardPolicy),
        embedding=run.policy.section("embedding", EmbedSpec),
    ).refs["dataset"]


def finetune_stages(run: Recording, spec: FinetuneSpec) -> None:
    """Rows, then the adapter; a killed training resumes from its last checkpoint."""
    rows = row_stages(run, spec.data or run.policy.section("training_data", DataSpec))
    training = spec.adapter or run.policy.section("training", TrainSpec)
    run.run(finetune_adapter, base=run.ref("take-model", "model"), dataset=rows, spec=training)


@flow(name="finetune", description="Make training rows and fine-tune the base model by QLoRA.")
def finetune(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """Documents and cases to an adapter with its merged model."""
    with recording("finetune", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        return run.summary()
