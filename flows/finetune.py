"""Flow: training rows → a fine-tuned model by the chosen method → preferences → what was forgotten → the comparison."""

from prefect import flow

from evaluation.forgetting import ForgettingSpec
from flows.bundling import measure, starter_release, tuned_release
from flows.datasets import dataset_stages
from flows.index import index_stages
from flows.recording import Recording, RunSpec, Summary, recording
from models.training.data_spec import DataSpec
from models.training.spec import TrainSpec
from tasks.comparing import compare_releases
from tasks.training import finetune_adapter, has_pairs, measure_forgetting, prefer_adapter

VALIDATION = ["validation"]
"""The split that a training is judged on; the gate's cases decide once, at the end."""


class FinetuneSpec(RunSpec):
    """What a data scientist may change for one run; where None stands, the policy file decides."""

    adapter: TrainSpec | None = None
    """How the model is trained: method, rates, steps, preferences. None: section `training` of the policy file; else
    the values here, all of them."""
    data: DataSpec | None = None
    """How training rows are made. None: section `training_data` of the policy file; else the values here, all."""


def finetune_stages(run: Recording, spec: FinetuneSpec) -> None:
    """Rows, the training, preferences where there are pairs, and the check of what was forgotten.

    A killed training resumes from its last checkpoint.
    """
    rows = dataset_stages(run, spec.data or run.policy.section("training_data", DataSpec))
    training = spec.adapter or run.policy.section("training", TrainSpec)
    base = run.ref("take-model", "model")
    alone = training.model_copy(update={"preference": None})
    tuned = run.run(finetune_adapter, base=base, dataset=rows, spec=alone).refs
    if training.preference and has_pairs(rows):
        tuned = run.run(prefer_adapter, model=tuned["merged"], dataset=rows, spec=training.preference).refs
    whole = tuned.get("merged")
    run.run(
        measure_forgetting,
        base=base,
        tuned=whole or base,
        adapter=None if whole else tuned["adapter"],
        spec=run.policy.section("forgetting", ForgettingSpec),
    )


def compare_stages(run: Recording) -> None:
    """The validation cases asked of the base and of the fine-tuned model, and their answers compared."""
    releases = {"base": starter_release(run), "tuned": tuned_release(run)}
    scores = {label: measure(run, label, release, VALIDATION)[1] for label, release in releases.items()}
    run.run(compare_releases, scores=scores, against="base", cases=run.ref("read-cases", "cases"), splits=VALIDATION)


@flow(name="finetune", description="Make training rows, train the base by the chosen method, and compare the two.")
def finetune(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """Documents and cases to a fine-tuned model, set beside its base on the validation cases."""
    with recording("finetune", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        compare_stages(run)
        return run.summary()
