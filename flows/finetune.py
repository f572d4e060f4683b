"""Flow: training rows from the train cases and the corpus → QLoRA → adapter and merged model."""

from prefect import flow

from flows.datasets import dataset_stages
from flows.index import index_stages
from flows.recording import Recording, RunSpec, Summary, recording
from models.training.data_spec import DataSpec
from models.training.sft import TrainSpec
from tasks.training import finetune_adapter


class FinetuneSpec(RunSpec):
    """What a data scientist may change for one run; where None stands, the policy file decides."""

    adapter: TrainSpec | None = None
    """How the adapter is trained. None: section `training` of the policy file; else the values here, all of them."""
    data: DataSpec | None = None
    """How training rows are made. None: section `training_data` of the policy file; else the values here, all."""


def finetune_stages(run: Recording, spec: FinetuneSpec) -> None:
    """Rows, then the adapter; a killed training resumes from its last checkpoint."""
    rows = dataset_stages(run, spec.data or run.policy.section("training_data", DataSpec))
    training = spec.adapter or run.policy.section("training", TrainSpec)
    run.run(finetune_adapter, base=run.ref("take-model", "model"), dataset=rows, spec=training)


@flow(name="finetune", description="Make training rows and fine-tune the base model by QLoRA.")
def finetune(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """Documents and cases to an adapter with its merged model."""
    with recording("finetune", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        return run.summary()
