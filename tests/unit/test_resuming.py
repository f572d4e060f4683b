"""kill -9 in the middle of a training, then the same call: the same bytes as an unbroken run, for every method."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.training import sft
from models.training.dataset import Dataset
from models.training.preferences import prefer
from models.training.spec import PreferenceSpec, TrainSpec
from models.training.watching import Progress
from tests.unit.tiny_model import content, make_base, pairs, rows

SMALL = TrainSpec(rank=4, alpha=8, epochs=2, batch_size=4, checkpoint_steps=2, max_length=128, virtual_tokens=4)
DPO = PreferenceSpec(rank=4, alpha=8, epochs=2, batch_size=4, checkpoint_steps=2, max_length=128)
STOPPING: dict[str, Any] = {"evaluation_steps": 2, "patience": 1, "learning_rate": 0.1}
"""A rate so high that the second look at the validation rows is worse than the first."""


def _training(**changes: Any) -> Callable[[Path, Path, Progress], Any]:
    """A job that trains with these changes to the spec."""

    def job(base: Path, work: Path, progress: Progress) -> Any:
        spec = TrainSpec.model_validate(SMALL.model_dump() | changes)
        return sft.train(base, Dataset(rows(), rows(20)[16:]), spec, work, progress)

    return job


JOBS: dict[str, Callable[[Path, Path, Progress], Any]] = {
    "full": _training(method="full"),
    "lora": _training(method="lora", gradient_accumulation=2, batch_size=2),
    "qlora": _training(method="qlora"),
    "prefix": _training(method="prefix"),
    "ia3": _training(method="ia3"),
    "packed": _training(method="lora", packing=True, batch_size=1, gradient_checkpointing=True),
    "stopping": _training(method="lora", **STOPPING),
    "dpo": lambda base, work, progress: prefer(base, Dataset((), (), pairs(), pairs(20)[16:]), DPO, work, progress),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def killed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folders of every job, each killed after its third step."""
    work = tmp_path_factory.mktemp("killed")
    script = Path(__file__).with_name("killed_trainings.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, base, work, *JOBS], check=True, timeout=300, env=environment)
    return work


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_run_ends_in_the_same_bytes(name: str, base: Path, killed: Path, tmp_path: Path) -> None:
    """A half-written checkpoint lies beside the whole ones, too."""
    half = killed / name / "checkpoint-4"
    half.mkdir(exist_ok=True)
    (half / "adapter_model.safetensors").write_bytes(b"half")
    unbroken = JOBS[name](base, tmp_path, lambda _: None)
    resumed = JOBS[name](base, killed / name, lambda _: None)
    assert (resumed.resumed_from_step, unbroken.resumed_from_step) == (2, 0)
    assert content(resumed.adapter) == content(unbroken.adapter)
    assert content(resumed.merged) == content(unbroken.merged)
    assert content(resumed.adapter) or content(resumed.merged)
    assert resumed.losses == unbroken.losses
    for more in ("validation_losses", "best_step", "margins"):
        assert getattr(resumed, more, None) == getattr(unbroken, more, None)


def test_the_stopping_run_stops_and_takes_an_earlier_step(base: Path, tmp_path: Path) -> None:
    report = JOBS["stopping"](base, tmp_path, lambda _: None)
    (_, first), (_, second) = report.validation_losses
    assert second > first
    assert (report.steps, report.best_step) == (4, 2)
    assert any("stopped early at step 4 of 8; the weights of step 2" in note for note in report.notes)
