"""Figures of a stage are in MLflow while it works, and its run is closed as the stage ended."""

import pytest
from prefect import flow

from flows import live
from flows.recording import Recording, RunSpec, recording
from infra.errors import InputError
from infra.telemetry import Tracker
from tasks.live import report_live
from tasks.policy import StageResult, stage
from tests.flows.project import Project


def metrics(tracker: Tracker, name: str) -> dict[int, float]:
    """Step → loss of the newest run of that name."""
    run = tracker.client.search_runs(
        [tracker.experiment], f"attributes.run_name = '{name}'", order_by=["attributes.start_time DESC"], max_results=1
    )[0]
    return {point.step: point.value for point in tracker.client.get_metric_history(run.info.run_id, "loss")}


def status(tracker: Tracker, name: str) -> tuple[str, str]:
    found = tracker.client.search_runs([tracker.experiment], f"attributes.run_name = '{name}'", max_results=1)[0]
    return found.info.status, found.data.tags["sluice.status"]


def test_figures_are_there_while_the_stage_works(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    seen: list[dict[int, float]] = []

    @flow(name="live-test")
    def story(spec: RunSpec) -> None:
        with recording("live-test", spec) as run:

            @stage("tasks/live.py", cached=False)
            def learn(curve: list[tuple[int, float]]) -> StageResult:
                for step, loss in curve[1:]:
                    report_live(step, {"loss": loss, "gradient_norm": 1.0})
                seen.append(metrics(run.tracker, "learn"))
                return StageResult(computed=1, total=1, curve=curve)

            run.run(learn, curve=[(1, 3.0), (2, 2.0), (3, 1.0)])
            told.append(run)

    told: list[Recording] = []
    story(RunSpec(policy=project.policy))
    assert seen == [{2: 2.0, 3: 1.0}]
    assert metrics(told[0].tracker, "learn") == {1: 3.0, 2: 2.0, 3: 1.0}
    assert status(told[0].tracker, "learn") == ("FINISHED", "done")


def test_a_stage_that_fails_keeps_its_figures_in_a_failed_run(project: Project) -> None:
    told: list[Recording] = []

    @flow(name="live-failing")
    def story(spec: RunSpec) -> None:
        with recording("live-failing", spec) as run:
            told.append(run)

            @stage("tasks/live.py", cached=False)
            def explode(curve: list[tuple[int, float]]) -> StageResult:
                for step, loss in curve:
                    report_live(step, {"loss": loss})
                raise InputError("the loss is nan")

            run.run(explode, curve=[(1, 3.0), (2, 9.0)])

    with pytest.raises(InputError, match="the loss is nan"):
        story(RunSpec(policy=project.policy))
    assert metrics(told[0].tracker, "explode") == {1: 3.0, 2: 9.0}
    assert status(told[0].tracker, "explode") == ("FAILED", "failed")
