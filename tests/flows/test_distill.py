"""The distillation flow on the transformers engine: a student is taught, trained, measured and judged."""

import json
from collections.abc import Iterator

import pytest

from flows.distill import DistillRunSpec, distill
from flows.recording import Summary
from infra.errors import InputError
from models.base import STARTER_FOLDER
from models.serving.vllm import EngineSpec
from tasks.measuring import deployer
from tests.flows.project import Project, serving, shown_artifacts

TRAINING = {"method": "full", "epochs": 1, "batch_size": 2, "learning_rate": 0.001}
LOAD = {"mode": "closed", "requests": 3, "warmup": 1, "concurrency": 1, "max_tokens": 4}


@pytest.fixture
def distilling(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose teacher is the starter as it is, on ports of its own; what it starts is stopped."""
    project.take("guards", "engine", "asking", "cost", "training", "training_data", "forgetting")
    project.set("training_data", corpus_questions=4, orders=1)
    logits = {"on_policy": 0.5, "max_new_tokens": 8, "training": TRAINING}
    project.set("distillation", teacher="starter", training=TRAINING, logits=logits)
    project.set("distillation_load", **LOAD)
    with serving(project, monkeypatch, "ENGINE"):
        yield project


def computed(summary: Summary) -> set[str]:
    return {name for name, row in summary.stages.items() if row.status == "done"}


@pytest.mark.e2e
def test_a_student_is_taught_measured_and_judged(distilling: Project) -> None:
    told = distill()
    trained = {"teach", "distill-sequence", "distill-logits", "student-alone", "choose-student", "judge-student"}
    assert trained | {"load-teacher", "load-student"} <= computed(told)
    assert told.stages["take-teacher"].status == "cached", "it is the base of the project"
    assert "finetune-adapter" not in told.stages
    report = json.loads(distilling.stored("distillation-report", "distillation.json").read_text("utf-8"))
    assert report["verdict"] == told.verdict
    assert report["models"] == told.models
    assert [reason.split(":")[0] for reason in told.reasons] == ["score kept", "size"]
    assert [row["model"] for row in report["models"]] == ["teacher", "student", "student-alone"]
    teacher, student, alone = report["models"]
    assert teacher["parameters"] >= 4 * student["parameters"]
    assert teacher["bytes_on_disk"] >= 4 * student["bytes_on_disk"]
    assert student["bytes_on_disk"] == alone["bytes_on_disk"]
    assert all(row["p95_ms"] > 0 and row["tokens_per_s"] > 0 and row["per_request"] > 0 for row in report["models"])
    assert f"**{report['verdict']}**" in shown_artifacts()["judge-student"]
    assert computed(distill()) == set()


@pytest.mark.e2e
def test_an_endpoint_teaches_by_its_answers_alone(distilling: Project) -> None:
    engine = EngineSpec(dtype="float32", lora=None)
    with deployer(engine).engine_for(STARTER_FOLDER, name="elsewhere") as elsewhere:
        teacher = {"url": elsewhere.base_url, "model": elsewhere.model}
        distilling.set("distillation", teacher=teacher, logits=None)
        told = distill()
    assert "teach" in computed(told)
    assert not {"take-teacher", "distill-logits", "load-teacher"} & set(told.stages)
    report = json.loads(distilling.stored("distillation-report", "distillation.json").read_text("utf-8"))
    assert report["verdict"] in {"FAIL", "UNDECIDED"}, "its parameters are not known"
    teacher_row, *others = report["models"]
    assert {teacher_row[name] for name in ("parameters", "bytes_on_disk", "p95_ms", "per_request")} == {None}
    assert all(row["p95_ms"] > 0 for row in others)


def test_a_student_that_is_too_large_is_refused_before_anything_is_trained(distilling: Project) -> None:
    distilling.set("distillation", student="starter")
    with pytest.raises(InputError, match="least_ratio"):
        distill(DistillRunSpec())
    assert not (distilling.home / "work").exists()
