"""The check of what a training made the model forget: its rule, and a model that was really destroyed."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from evaluation.forgetting import ForgettingSpec, check_forgetting, compared, general_tasks
from evaluation.preference import preference_figures
from models.base import STARTER_FOLDER
from models.training.preferences import Margin

SPEC = ForgettingSpec(tasks=40, margin=0.1)


def test_a_small_or_unproven_fall_passes_and_a_shown_one_does_not() -> None:
    same = compared([True] * 30 + [False] * 10, [True] * 30 + [False] * 10, SPEC)
    assert (same.before, same.after, same.forgot) == (0.75, 0.75, [])
    assert same.objection(SPEC) is None
    slight = compared([True] * 40, [True] * 36 + [False] * 4, SPEC)
    assert slight.objection(SPEC) is None
    heavy = compared([True] * 40, [True] * 20 + [False] * 20, SPEC)
    assert heavy.forgot == list(range(20, 40))
    assert heavy.difference.high < -0.1
    told = heavy.objection(SPEC)
    assert told is not None
    assert "from 1.000 to 0.500" in told
    assert "learning_rate" in told
    assert "nothing was registered" in told


def test_what_was_learnt_elsewhere_makes_up_for_what_was_forgotten() -> None:
    found = compared([True] * 20 + [False] * 20, [False] * 20 + [True] * 20, SPEC)
    assert found.difference.mean == 0
    assert found.objection(SPEC) is None


def test_the_tasks_are_the_same_every_time_and_apart_from_training() -> None:
    assert general_tasks(5) == general_tasks(9)[:5]
    assert all(len(task.turns) == 1 for task in general_tasks(30))


def test_a_destroyed_model_is_refused(tmp_path: Path) -> None:
    """The starter with one layer's output turned to noise reads no more; beside itself it has forgotten nothing."""
    for path in STARTER_FOLDER.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].flip(0) * -1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    spec = ForgettingSpec(tasks=12, margin=0.05)
    broken = check_forgetting(STARTER_FOLDER, tmp_path, None, spec)
    assert broken.before > 0.4
    assert broken.after == 0
    assert "general reading fell" in str(broken.objection(spec))


def test_preference_figures_say_what_moved() -> None:
    margins = [Margin(source=f"case:{n}", before=-1.0 + 0.1 * n, after=0.5 + 0.1 * n) for n in range(12)]
    rows = {row["figure"]: row for row in preference_figures(margins, beta=0.1)}
    moved = rows["log-probability margin, nats"]
    assert moved["after"] - moved["before"] == pytest.approx(1.5)
    assert rows["chosen is likelier"]["before"] == pytest.approx(1 / 12)
    assert rows["chosen is likelier"]["after"] == 1
    assert rows["chosen is likelier"]["low"] > 0
    assert rows["implied reward margin"]["after"] == pytest.approx(0.15)
    assert rows["implied reward accuracy"]["after"] == 1
    assert rows["implied reward accuracy"]["low"] > 0.7
    assert preference_figures([], beta=0.1) == []
