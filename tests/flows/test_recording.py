"""Stages as a run records them: retried, timed out, kept, failed; and runs that were killed before."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.recording import Recording, RunSpec, recording
from infra.errors import InputError, TryAgainError
from infra.settings import settings
from infra.telemetry import Tracker
from tasks.policy import StageResult, artifact_store, stage
from tests.flows.project import Project, shown_artifacts

CODE = ("infra/errors.py",)


def one(file: Path) -> StageResult:
    """An artifact of one file, counted in a file beside the state."""
    with file.open("a") as counter:
        counter.write("x")
    with artifact_store().writing("thing") as draft:
        (draft.folder / "thing.txt").write_text("thing")
    return StageResult(
        refs={"thing": draft.stored()}, computed=2, total=3, metrics={"size": 5}, params={"kind": "x"},
        table=[{"a": 1, "b": None, "c": {"low": 0.123456}}], notes=["made"], curve=[(1, 2.0), (2, 1.0)],
    )  # fmt: skip


@stage(*CODE)
def make(file: str) -> StageResult:
    """Kept by content."""
    return one(Path(file))


@stage(cached=False)
def make_always(file: str) -> StageResult:
    """Never kept."""
    return one(Path(file))


@stage(*CODE)
def wrong(file: str) -> StageResult:
    """Fails for good."""
    one(Path(file))
    raise InputError("line 3 is wrong")


@stage(*CODE, retries=1)
def shaky(file: str) -> StageResult:
    """Works at the second call."""
    result = one(Path(file))
    if len(Path(file).read_text()) == 1:
        raise TryAgainError("engine is starting")
    return result


@stage(*CODE, timeout_s=0.2)
def slow(file: str) -> StageResult:
    """Takes longer than it may."""
    time.sleep(2)
    return one(Path(file))


@flow
def run_stage(name: str, file: str) -> dict[str, Any]:
    """One of the stages above in a recorded run."""
    with recording("ingest", RunSpec()) as run:
        result = run.run(globals()[name], "labelled", file=file)
        return {"summary": run.summary(), "result": result, "run": run.mlflow_run}


def calls(file: Path) -> int:
    return len(file.read_text()) if file.is_file() else 0


def stage_run(client: MlflowClient, parent: str) -> Any:
    (found,) = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent}'")
    return found


def test_a_stage_is_kept_and_shown(project: Project, tmp_path: Path, mlflow_address: str) -> None:
    file = tmp_path / "calls"
    first, second = run_stage("make", str(file)), run_stage("make", str(file))
    assert calls(file) == 1
    assert first["result"] == second["result"]
    rows = [told["summary"].stages["labelled"] for told in (first, second)]
    assert [(row.status, row.computed, row.total) for row in rows] == [("done", 2, 3), ("cached", 0, 3)]
    client = MlflowClient(tracking_uri=mlflow_address)
    for told, status in ((first, "done"), (second, "cached")):
        found = stage_run(client, told["run"])
        assert found.data.tags["sluice.status"] == status
        assert found.data.tags["artifact.thing"].startswith(f"thing {told['result'].refs['thing'].digest} ")
        assert found.data.metrics.items() >= {"size": 5.0, "loss": 1.0, "total": 3.0}.items()
        assert found.data.params == {"kind": "x"}
    shown = shown_artifacts()
    assert json.loads(shown["labelled-table"]) == [{"a": 1, "b": "–", "c": "low 0.1235"}]
    assert f"| thing | `thing {first['result'].refs['thing'].digest}` |" in shown["labelled"]


def test_a_stage_that_is_not_kept_runs_each_time(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    for _ in range(2):
        assert run_stage("make_always", str(file))["summary"].stages["labelled"].status == "done"
    assert calls(file) == 2


def test_wrong_input_is_not_tried_again(project: Project, tmp_path: Path, mlflow_address: str) -> None:
    file = tmp_path / "calls"
    with pytest.raises(InputError, match="line 3 is wrong"):
        run_stage("wrong", str(file))
    assert calls(file) == 1
    client = MlflowClient(tracking_uri=mlflow_address)
    parent = client.search_runs(["1"], "tags.`sluice.flow` = 'ingest'", order_by=["attributes.start_time DESC"])[0]
    assert parent.info.status == "FAILED"
    assert stage_run(client, parent.info.run_id).data.tags["sluice.status"] == "failed"


def test_what_may_work_later_is_tried_again(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    assert run_stage("shaky", str(file))["summary"].stages["labelled"].status == "done"
    assert calls(file) == 2


def test_a_stage_that_takes_too_long(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    with pytest.raises(TryAgainError, match=r"labelled was stopped after \d s, its time limit"):
        run_stage("slow", str(file))
    assert calls(file) == 0


def test_a_killed_run_is_closed_by_the_next(project: Project, tmp_path: Path, mlflow_address: str) -> None:
    tracker = Tracker(mlflow_address)
    lost = tracker.start("killed", tags={"sluice.flow": "ingest"})
    with get_client(sync_client=True) as prefect:
        dead = prefect.create_flow_run(run_stage, parameters={"name": "make", "file": "x"}, state=Running())
    project.home.mkdir()
    lock = project.home / "run.lock"
    lock.write_text(json.dumps({"pid": 4711, "flow_run": str(dead.id), "mlflow_run": lost}))
    run_stage("make", str(tmp_path / "calls"))
    assert lock.read_text() == ""
    assert tracker.client.get_run(lost).info.status == "KILLED"
    with get_client(sync_client=True) as prefect:
        assert prefect.read_flow_run(dead.id).state_name == "Crashed"


@pytest.mark.parametrize(
    "text",
    ['{"pid": 4711, "flow_run": "0f0f0f0f-0000-4000-8000-000000000000", "mlflow_run": "%s"}' % ("0" * 32), "4711", "{"],
)
def test_a_lock_file_of_a_run_that_nobody_knows(project: Project, tmp_path: Path, text: str) -> None:
    project.home.mkdir()
    (project.home / "run.lock").write_text(text)
    assert run_stage("make", str(tmp_path / "calls"))["summary"].stages["labelled"].status == "done"


def test_who_holds_the_state_stands_in_the_lock_file(project: Project, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    @flow
    def look() -> None:
        with recording("ingest", RunSpec()) as run:
            assert isinstance(run, Recording)
            seen.update(json.loads((settings().home / "run.lock").read_text()), mine=run.mlflow_run)

    look()
    assert seen["pid"] == os.getpid()
    assert seen["mlflow_run"] == seen["mine"]
    assert len(seen["flow_run"]) == 36
