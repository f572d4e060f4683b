"""The starter model's report: figures from raw observations, and the card's kept part."""

from pathlib import Path
from shutil import copytree

import pytest

from models.starter import reading, report
from models.starter.report import Observation
from tests.unit.test_starter_weights import WEIGHTS


def _observed(kind: str, gold: str, output: str, passages: int = 2) -> Observation:
    return Observation("short", kind, passages, "", gold, output)


OBSERVATIONS = [
    _observed("span", "14 days [2]", "14 days [2]"),
    _observed("span", "14 days [2]", "14 days [1]"),
    _observed("span", "14 days [2]", reading.REFUSAL),
    _observed("refusal", reading.REFUSAL, reading.REFUSAL),
    _observed("claim", "no", "yes"),
]


@pytest.mark.parametrize(
    ("measure", "value", "number"),
    [
        ("exact match, one fact", "0.333", "3"),
        ("answer right, citation aside", "0.667", "3"),
        ("refusal precision", "0.500", "2"),
        ("refusal recall", "1.000", "1"),
        ("support judgement accuracy", "0.000", "1"),
        ("citation right, 2 passages", "0.333", "3"),
    ],
)
def test_figures_come_from_the_observations(measure: str, value: str, number: str) -> None:
    line = next(line for line in report.table(OBSERVATIONS).splitlines() if measure in line)
    assert f"| {value} |" in line
    assert line.endswith(f"| {number} |")


def test_the_cases_part_of_the_card_is_kept(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    copytree(WEIGHTS, weights)
    (weights / "README.md").write_text(f"{report.CASES[0]}\nSample cases: 0.5\n{report.CASES[1]}")
    assert f"{report.CASES[0]}\nSample cases: 0.5\n{report.CASES[1]}" in report.card(weights, OBSERVATIONS)


def test_held_out_tasks_cover_every_number_of_passages() -> None:
    for group in report.TASK_SETS:
        made = report.tasks(2, group)
        assert [len(example.passages) for example in made] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert all(len(example.turns) == 1 for example in made)
