"""Flow: a small student learns a teacher's answers and its logits; all are measured on the cases and under load."""

from typing import Any, Literal

from prefect import flow

from evaluation.types import Decision
from flows.bundling import bundle, load, measure, merged_model, tuned_release
from flows.datasets import dataset_stages
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.recording import Recording, Summary, recording
from infra.cost import CostSpec
from infra.store import ArtifactRef
from models.release import ModelPart, Release
from models.serving.deployment import Placement
from models.serving.vllm import EngineSpec
from models.training.data_spec import DataSpec
from models.training.distill_spec import TUNED, DistillSpec, TeacherEndpoint
from tasks.comparing import compare_releases
from tasks.distilling import (
    ALONE,
    STUDENT,
    TEACHER,
    ask_teacher,
    check_student,
    choose_student,
    distill_student,
    judge_student,
)
from tasks.policy import StageResult
from tasks.releasing import retire_engines
from tasks.training import ModelSpec, finetune_adapter, take_model

CHOICES, FINAL = ["validation"], ["gate"]
"""Splits that the student's step is chosen on, and those that all are compared on at the end."""


class DistillRunSpec(FinetuneSpec):
    """What a data scientist may change for one run; where None stands, the policy file decides."""

    distillation: DistillSpec | None = None
    """Student, teacher and steps. None: section `distillation` of the policy file; else the values here, all."""


class DistillSummary(Summary):
    """The summary, with the verdict."""

    verdict: Decision
    """Whether the student keeps enough of its teacher's score at its size."""
    reasons: list[str]
    models: list[dict[str, Any]]
    """Teacher, student and student alone: score with interval, size, speed under load, cost of an answer."""


def _taken(run: Recording, label: Literal["take-student", "take-teacher"], model: str) -> ArtifactRef:
    """A model that is shipped, a folder or a Hugging Face id, as an artifact."""
    named = ModelSpec(base=model)
    return run.run(take_model, label, model=named.source(run.policy), content=named.content(run.policy)).refs["model"]


def _teacher(
    run: Recording, spec: DistillRunSpec, wanted: DistillSpec
) -> tuple[Release | TeacherEndpoint, ArtifactRef | None]:
    """The teacher, and the folder that holds its logits. Student and teacher are checked before anything is trained."""
    student = run.ref("take-student", "model")
    if isinstance(wanted.teacher, TeacherEndpoint):
        run.run(check_student, student=student, teacher=None, spec=wanted)
        return wanted.teacher, None
    if wanted.teacher == TUNED:
        run.run(check_student, student=student, teacher=run.ref("take-model", "model"), spec=wanted)
        finetune_stages(run, spec)
        return tuned_release(run), merged_model(run.results)[0] if wanted.logits else None
    taken = _taken(run, "take-teacher", wanted.teacher)
    run.run(check_student, student=student, teacher=taken, spec=wanted)
    return bundle(run, ModelPart(base=taken)), taken


def student_stages(
    run: Recording, spec: DistillSpec, rows: ArtifactRef, teacher: Release | TeacherEndpoint, logits: ArtifactRef | None
) -> dict[str, ArtifactRef]:
    """The student after each step, by the step's name; the later one goes on from the earlier."""
    student, made = run.ref("take-student", "model"), {}
    if spec.sequence is not None:
        rows = run.run(
            ask_teacher,
            "teach",
            dataset=rows,
            prompt=run.ref("take-prompt", "prompt"),
            teacher=teacher,
            engine=run.policy.section("engine", EngineSpec),
            spec=spec.sequence,
        ).refs["dataset"]
        trained = run.run(finetune_adapter, "distill-sequence", base=student, dataset=rows, spec=spec.training)
        student = made["sequence"] = trained.refs["merged"]
    if spec.logits is not None and logits is not None:
        matched = run.run(
            distill_student, "distill-logits", student=student, teacher=logits, dataset=rows, spec=spec.logits
        )
        made["logits"] = matched.refs["model"]
    return made


def _chosen(run: Recording, made: dict[str, ArtifactRef], metric: str) -> Release:
    """The student of the step that answers the validation cases best."""
    releases = {name: bundle(run, ModelPart(base=model)) for name, model in made.items()}
    scores = {name: measure(run, f"student-{name}", release, CHOICES)[1] for name, release in releases.items()}
    return releases[run.run(choose_student, scores=scores, metric=metric).params["step"]]


def distill_stages(run: Recording, spec: DistillRunSpec) -> StageResult:
    """Teach and train the student, train it alone, measure all of them, judge."""
    wanted = spec.distillation or run.policy.section("distillation", DistillSpec)
    _taken(run, "take-student", wanted.student)
    teacher, logits = _teacher(run, spec, wanted)
    rows = dataset_stages(
        run, wanted.data or spec.data or run.policy.section("training_data", DataSpec), "student-rows"
    )
    made = student_stages(run, wanted, rows, teacher, logits)
    student = run.ref("take-student", "model")
    alone = run.run(finetune_adapter, ALONE, base=student, dataset=rows, spec=wanted.training).refs["merged"]
    models = {TEACHER: teacher, STUDENT: _chosen(run, made, wanted.metric), ALONE: bundle(run, ModelPart(base=alone))}
    return compare_stages(run, wanted, models)


def compare_stages(run: Recording, spec: DistillSpec, models: dict[str, Release | TeacherEndpoint]) -> StageResult:
    """Every model on the cases of the gate and under load; differences, and the verdict."""
    policy, cases = run.policy, run.ref("read-cases", "cases")
    scores, loads = {}, {}
    for name, model in models.items():
        if isinstance(model, TeacherEndpoint):
            stand_in = bundle(run, ModelPart(base=run.ref("take-student", "model")))
            scores[name] = measure(run, name, stand_in, FINAL, Placement(base_url=model.url, model=model.model))[1]
        else:
            observations, scores[name] = measure(run, name, model, FINAL)
            loads[name] = load(run, name, model, observations, "distillation_load")
    run.run(compare_releases, "compare-with-teacher", scores=scores, against=TEACHER, cases=cases, splits=FINAL)
    ours = {name: scores[name] for name in (STUDENT, ALONE)}
    run.run(compare_releases, "compare-with-alone", scores=ours, against=ALONE, cases=cases, splits=FINAL)
    counted = run.results["check-student"].metrics
    student = {name: int(counted["student_parameters"]) for name in (STUDENT, ALONE)}
    known = {TEACHER: int(counted["teacher_parameters"])} if "teacher_parameters" in counted else {}
    judged = run.run(
        judge_student,
        models=models,
        scores=scores,
        loads=loads,
        parameters=student | known,
        cases=cases,
        splits=FINAL,
        price=policy.section("cost", CostSpec),
        spec=spec,
    )
    kept = models[STUDENT]
    assert isinstance(kept, Release), "the student is a model of this run"
    retire_engines(policy.section("engine", EngineSpec), kept)
    return judged


@flow(name="distill", description="Distil a small student from a teacher, measure both and the student on its own.")
def distill(spec: DistillRunSpec = DistillRunSpec()) -> DistillSummary:
    """Documents, cases and a teacher to a measured student."""
    with recording("distill", spec) as run:
        index_stages(run)
        judged = distill_stages(run, spec)
        reasons = [note.removeprefix("- ") for note in judged.notes[1:]]
        told = {"verdict": judged.params["verdict"], "reasons": reasons, "models": judged.table}
        return DistillSummary.model_validate(run.summary().model_dump() | told)
