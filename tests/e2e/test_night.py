"""Whole nights on a small project: killed at every stage boundary and inside stages, two at once, and unchanged."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from infra.records import Records
from infra.settings import ROOT
from tests.e2e.project import Project, make_project, running

pytestmark = [pytest.mark.e2e, pytest.mark.engine]
INSIDE = ("finetune-adapter", "canary")
"""Stages that are killed while they work, not only at their end."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, dict[str, object]]]:
    """A project and the result of its first night, run without interruption."""
    with running(make_project(tmp_path_factory.mktemp("unbroken"))) as project:
        yield project, project.run("run", "nightly")


def test_a_night_ends_with_a_canaried_release(unbroken: tuple[Project, dict[str, object]]) -> None:
    project, result = unbroken
    assert result["verdict"] == "PASS", result["reasons"]
    assert result["canary"] == "PROMOTED"
    assert result["release"] == result["candidate"] != result["previous"]
    assert Path(str(result["report"])).read_text("utf-8").startswith("<!doctype html>")
    live = Records.open(f"sqlite:///{project.home / 'records.sqlite'}")
    assert live.pointers()["production"] == result["release"]
    assert live.pointers()["previous"] == result["previous"]


def test_an_unchanged_night_does_nothing(unbroken: tuple[Project, dict[str, object]]) -> None:
    project, first = unbroken
    again = project.run("run", "nightly")
    assert (again["verdict"], again["canary"], again["release"]) == ("UNCHANGED", "NONE", first["release"])
    assert {row["status"] for row in again["stages"].values()} == {"cached"}
    assert {row["computed"] for row in again["stages"].values()} == {0}


def test_two_nights_at_once_do_not_meet(unbroken: tuple[Project, dict[str, object]]) -> None:
    project, first = unbroken
    commands = [project.command("run", "nightly", "--when-busy", policy, "--json") for policy in ("wait", "wait")]
    both = [
        subprocess.Popen(command, env=project.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [result["release"] for result in results] == [first["release"]] * 2


def test_one_changed_document_embeds_only_its_chunks(unbroken: tuple[Project, dict[str, object]]) -> None:
    project, _ = unbroken
    document = project.folder / "documents" / "supply" / "hydrants.md"
    before = document.read_text("utf-8")
    try:
        document.write_text(before + "\n## New rule\n\nThe new rule of the hydrant team is rule 77.\n", "utf-8")
        changed = project.run("run", "index")["stages"]["embed"]
        assert changed["computed"] == 1 < changed["total"]
    finally:
        document.write_text(before, "utf-8")
    restored = project.run("run", "index")["stages"]["embed"]
    assert (restored["status"], restored["computed"]) == ("cached", 0)


def test_a_night_killed_at_every_boundary_ends_with_the_same_release(
    unbroken: tuple[Project, dict[str, object]], tmp_path: Path
) -> None:
    _, reference = unbroken
    rows = cast(dict[str, dict[str, object]], reference["stages"])
    stages = [stage for stage, row in rows.items() if row["status"] == "done"]
    finished: Counter[str] = Counter()
    with running(make_project(tmp_path)) as project, project.forking() as forking:
        moments = [[f"{stage} …"] * (stage in INSIDE) + [f"{stage}: done"] for stage in stages]
        for wanted in [moment for pair in moments for moment in pair]:
            for line in forking.kill_at(wanted, "run", "nightly"):
                finished.update(stage for stage in stages if f"  {stage}: done" in line)
        last = project.run("run", "nightly")
    assert last["release"] == reference["release"]
    twice = {stage: count for stage, count in finished.items() if count > 1 and stage != "canary"}
    assert not twice, f"computed more than once: {twice}"
