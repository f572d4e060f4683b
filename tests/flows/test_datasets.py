"""Training data through the stages: files, feedback and a teacher beside the rows by rule, kept by their content."""

import json
from typing import Any

import pytest
from prefect import flow

from flows.checking import check_policy
from flows.datasets import dataset_stages
from flows.index import index_stages
from flows.recording import RunSpec, Summary, recording
from infra.errors import InputError, PolicyError
from infra.processes import ProcessManager
from infra.records import Records, Trace
from infra.settings import Policy, settings
from infra.store import read_lines
from models.training.curation import Refused
from models.training.data_spec import DataSpec
from models.training.dataset import read_dataset
from tests.e2e.project import free_ports
from tests.flows.project import CASES, Project

LEARNT = {"question": "Who opens the harbour gate?", "answer": "The harbour master.", "document": "gate.md"}
GIVEN_AWAY = {"question": CASES[2][1], "answer": "Many."}


@flow(name="data")
def data(spec: RunSpec = RunSpec()) -> Summary:
    """The dataset alone."""
    with recording("finetune", spec) as run:
        index_stages(run)
        dataset_stages(run, run.policy.section("training_data", DataSpec))
        return run.summary()


def write(project: Project, *rows: Any) -> None:
    (project.folder / "own.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


@pytest.fixture
def own(project: Project) -> Project:
    """A project with a file of its own and a corrected answer."""
    project.take("guards", "training", "forgetting", "engine", "asking", "cost")
    project.set("training_data", files=[{"path": "own.jsonl"}], feedback={}, corpus_questions=4, preference_pairs=2)
    write(project, LEARNT, GIVEN_AWAY)
    passage = {
        "number": 1,
        "document": "mooring.md",
        "chunk": "c",
        "title": "Ferry",
        "text": "A crossing takes 25 minutes.",
    }
    records = Records.open(settings().database_url)
    records.add_traces(
        [
            Trace(
                trace_id="1" * 32, created=1.0, release="a" * 64, arm="production", question="How long is the trip?",
                answer="64 euros", citations=[1], passages=[passage],
            )
        ]
    )  # fmt: skip
    records.add_feedback("1" * 32, -1, correction="25 minutes")
    records.close()
    return project


def test_rows_of_every_source_and_the_refused_ones(own: Project) -> None:
    told = data()
    figures = told.metrics["make-rows"]
    assert (figures["from_files"], figures["from_feedback"], figures["refused"]) == (1, 2, 1)
    assert figures["from_cases"] > 0
    dataset = read_dataset(own.stored("dataset", "rows.jsonl").parent)
    assert "25 minutes [1]" in {row.messages[-1].content for row in dataset.rows}
    assert {pair.source.partition(":")[0] for pair in dataset.pairs} >= {"feedback", "case"}
    (refused,) = read_lines(own.stored("refused-rows", "refused.jsonl"), Refused)
    assert (refused.source, refused.kind, refused.case) == ("file:own.jsonl:2", "overlaps", CASES[2][0])

    again = data()
    assert {name for name, row in again.stages.items() if row.status == "done"} == {"take-feedback"}
    write(own, LEARNT)
    changed = data()
    assert {name for name, row in changed.stages.items() if row.status == "done"} == {
        "take-training-files", "take-feedback", "make-rows",
    }  # fmt: skip
    assert changed.metrics["make-rows"]["refused"] == 0


def test_a_bad_file_stops_the_run_and_names_the_line(own: Project) -> None:
    write(own, LEARNT, {"question": "Why?"})
    with pytest.raises(InputError, match=r"own\.jsonl:2"):
        data()


def test_a_missing_file_is_said_before_anything_is_read(own: Project) -> None:
    (own.folder / "own.jsonl").unlink()
    with pytest.raises(PolicyError, match=r"training_data\.files\.0\.path: 'own\.jsonl' is no file"):
        check_policy(Policy(own.policy), "finetune")


@pytest.mark.e2e
def test_a_teacher_without_an_endpoint_is_served_while_it_is_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.take("guards", "training", "forgetting", "engine", "asking", "cost")
    teacher = {"model": "starter", "made_questions": 3, "instructions": ""}
    project.set("training_data", teacher=teacher, corpus_questions=0)
    monkeypatch.setenv("SLUICE_ENGINE_PORT", str(free_ports(1)[0]))
    monkeypatch.setenv("SLUICE_ENGINE_KIND", "transformers")
    settings.cache_clear()
    told = data()
    figures = told.metrics["ask-teacher"]
    assert 0 < figures["rows"] + figures["refused"] <= 3, "rules make so many questions, and two may ask the same"
    assert told.metrics["make-rows"]["from_teacher"] <= figures["rows"]
    assert [status for status in ProcessManager(project.home).status() if status.alive] == []
    assert "ask-teacher" not in {name for name, row in data().stages.items() if row.status == "done"}
