"""Training stages on a tiny model: what each method leaves, preferences after it, and a model that forgot too much."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow

from evaluation.forgetting import ForgettingSpec
from flows.recording import Recording, RunSpec, recording
from infra.errors import InputError
from infra.store import ArtifactRef
from models.base import STARTER_FOLDER
from models.training.dataset import Dataset, write_dataset
from models.training.spec import PreferenceSpec, TrainSpec
from tasks.policy import artifact_store
from tasks.training import finetune_adapter, has_pairs, measure_forgetting, prefer_adapter
from tests.flows.project import Project
from tests.unit.tiny_model import make_base, pairs, rows

SMALL = TrainSpec(rank=4, alpha=8, epochs=1, batch_size=4, max_length=128, virtual_tokens=4, evaluation_steps=2)


def told(project: Project, story: Callable[[Recording], None]) -> Recording:
    """A flow that runs `story`."""
    runs: list[Recording] = []

    @flow(name="training-test")
    def stages(spec: RunSpec) -> None:
        with recording("training-test", spec) as run:
            runs.append(run)
            story(run)

    stages(RunSpec(policy=project.policy))
    return runs[0]


def dataset(*, with_pairs: bool = False) -> ArtifactRef:
    some = Dataset(rows(), rows(20)[16:], pairs(), pairs(28)[16:]) if with_pairs else Dataset(rows(), rows(20)[16:])
    with artifact_store().writing("dataset") as draft:
        write_dataset(draft.folder, some)
    return draft.stored()


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("full", {"merged", "report"}),
        ("lora", {"adapter", "merged", "report"}),
        ("ia3", {"adapter", "merged", "report"}),
        ("prefix", {"adapter", "report"}),
    ],
)
def test_what_a_method_leaves(method: str, parts: set[str], project: Project, tmp_path: Path) -> None:
    spec = SMALL.model_copy(update={"method": method})

    def story(run: Recording) -> None:
        base = artifact_store().put("model", make_base(tmp_path / "base"))
        run.run(finetune_adapter, base=base, dataset=dataset(), spec=spec)

    made = told(project, story).results["finetune-adapter"]
    assert set(made.refs) == parts
    assert made.params["method"] == method
    assert float(made.params["learning_rate"]) == spec.rate
    assert {"validation_loss_first", "validation_loss_last", "trained_parameters"} <= set(made.metrics)
    report = artifact_store().open(made.refs["report"])
    assert sorted(path.name for path in report.iterdir()) == ["loss.svg", "training.json"]
    assert str(project.home) not in (report / "training.json").read_text("utf-8")


def test_preferences_are_learnt_on_the_fine_tuned_model(project: Project, tmp_path: Path) -> None:
    def story(run: Recording) -> None:
        base, both = artifact_store().put("model", make_base(tmp_path / "base")), dataset(with_pairs=True)
        assert has_pairs(both)
        assert not has_pairs(dataset())
        spec = PreferenceSpec(rank=4, alpha=8, epochs=4, batch_size=4, max_length=128, learning_rate=0.01)
        run.run(prefer_adapter, model=base, dataset=both, spec=spec)

    made = told(project, story).results["prefer-adapter"]
    assert set(made.refs) == {"adapter", "merged", "report"}
    figures = {row["figure"]: row for row in made.table}
    assert figures["log-probability margin, nats"]["low"] > 0
    assert figures["implied reward accuracy"]["after"] == 1


def test_a_training_that_destroyed_the_model_fails_the_run(project: Project, tmp_path: Path) -> None:
    """A model with random weights stands where the tuned starter should: it reads nothing any more."""

    def story(run: Recording) -> None:
        store = artifact_store()
        base, noise = store.put("model", STARTER_FOLDER), store.put("model", make_base(tmp_path / "noise"))
        run.run(measure_forgetting, base=base, tuned=noise, adapter=None, spec=ForgettingSpec(tasks=12, margin=0.05))

    with pytest.raises(InputError, match=r"general reading fell from 0\.\d+ to 0\.000.*nothing was registered"):
        told(project, story)
    assert not list((project.home / "store").glob("training-report/*"))
