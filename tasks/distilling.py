"""Tasks of distillation: the pair is checked, the teacher asked, the student trained, and all of them compared."""

from evaluation.keeping import (
    best_of,
    decide_kept,
    model_row,
    quality_picture,
    share_kept,
    share_picture,
    speed_picture,
)
from evaluation.metrics import case_values
from evaluation.statistics import clusters_of
from indexes.cache import ContentCache
from infra.cost import CostSpec
from infra.settings import settings
from infra.store import ArtifactRef, canonical_json, write_atomic
from models.prompts import load_prompt
from models.release import Release
from models.serving.engine import OpenAIEngine
from models.serving.vllm import EngineSpec
from models.training.asking import Client, asking
from models.training.dataset import Dataset, read_dataset, write_dataset
from models.training.distill import distill_logits
from models.training.distill_pair import check_ratio, check_same_tokens, count_parameters
from models.training.distill_spec import DistillSpec, LogitSpec, SequenceSpec, TeacherEndpoint
from models.training.teacher import counted, prompts_of, teach
from tasks.datasets import REPLIES, SPARE
from tasks.measuring import cases_of, deployer, load_of, scores_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage
from tasks.quantizing import bytes_on_disk
from tasks.training import TRAINING, work_folder

TEACHER, STUDENT, ALONE = "teacher", "student", "student-alone"
"""Names of the three that are compared."""
DISTILLING = ("models/training/distill.py", "models/training/distill_batches.py", *TRAINING)
"""Modules that decide the weights of a student."""


@stage("models/training/distill_pair.py")
def check_student(student: ArtifactRef, teacher: ArtifactRef | None, spec: DistillSpec) -> StageResult:
    """The student is small enough for the teacher, and shares its tokens where logits are compared."""
    store = artifact_store()
    parameters = {"student": count_parameters(store.open(student))}
    if teacher is not None:
        parameters["teacher"] = count_parameters(store.open(teacher))
    elif isinstance(spec.teacher, TeacherEndpoint) and spec.teacher.parameters:
        parameters["teacher"] = spec.teacher.parameters
    if "teacher" in parameters:
        check_ratio(parameters["student"], parameters["teacher"], spec.least_ratio)
    if teacher is not None and spec.logits is not None:
        check_same_tokens(store.open(student), store.open(teacher))
    metrics = {f"{name}_parameters": float(count) for name, count in parameters.items()}
    return StageResult(computed=1, total=1, metrics=metrics)


@stage(*(f"models/training/{name}.py" for name in ("teacher", "asking", "support")), timeout_s=6 * 3600)
def ask_teacher(
    dataset: ArtifactRef,
    prompt: ArtifactRef,
    teacher: Release | TeacherEndpoint,
    engine: EngineSpec,
    spec: SequenceSpec,
) -> StageResult:
    """The dataset's questions answered by the teacher; what its passages support becomes rows, beside the old ones."""
    store = artifact_store()
    known, template = read_dataset(store.open(dataset)), load_prompt(prompt, store)
    kept, progress = ContentCache(settings().home / REPLIES, spare=SPARE), progress_logger("ask-teacher", "questions")
    ask = asking(client_of(teacher, engine, spec.timeout_s), spec, kept, progress)
    taught = teach(prompts_of(known.rows, template), ask, template, spec.asking)
    rows = [*taught.rows, *(known.rows if spec.reference_rows else [])]
    with store.writing("dataset") as draft:
        write_dataset(draft.folder, Dataset(rows, known.validation))
    refused = counted(taught.refused)
    return StageResult(
        refs={"dataset": draft.stored()},
        computed=len(taught.kept),
        total=len(taught.kept),
        metrics={"taught": len(taught.rows), "refused": len(taught.refused), "rows": len(rows)},
        table=[{"reason": reason, "refused": count} for reason, count in refused.items()],
    )


def client_of(teacher: Release | TeacherEndpoint, engine: EngineSpec, timeout_s: float) -> Client:
    """Where a teacher answers: its own address, or an engine that is started for it."""
    if isinstance(teacher, TeacherEndpoint):
        key = settings().teacher_api_key.get_secret_value()
        return Client(lambda: OpenAIEngine(teacher.url, timeout_s, key), teacher.model, teacher.url)
    placed = deployer(engine).ensure([teacher])[teacher.digest]
    return Client(lambda: OpenAIEngine(placed.base_url, timeout_s), placed.model, teacher.digest)


@stage(*DISTILLING, timeout_s=6 * 3600)
def distill_student(student: ArtifactRef, teacher: ArtifactRef, dataset: ArtifactRef, spec: LogitSpec) -> StageResult:
    """The student trained towards the teacher's logits; goes on from a killed run's last checkpoint."""
    store = artifact_store()
    progress = progress_logger("distill-student", "steps")
    made = distill_logits(
        store.open(student),
        store.open(teacher),
        read_dataset(store.open(dataset)).rows,
        spec,
        work_folder("distill-student", DISTILLING, spec, student, teacher, dataset),
        lambda step: progress(step.step, step.steps),
    )
    return StageResult(
        refs={"model": store.put("model", made.student)},
        computed=made.steps - made.resumed_from_step,
        total=made.steps,
        metrics={"rows": made.rows, "rows_too_long": made.rows_too_long, "final_divergence": made.losses[-1][1]},
        params={name: str(value) for name, value in spec.model_dump(mode="json").items()},
        notes=made.notes,
        curve=made.losses,
    )


@stage("evaluation/keeping.py", "tasks/distilling.py")
def choose_student(scores: dict[str, ArtifactRef], metric: str) -> StageResult:
    """Which step's student is taken (`params["step"]`): the one with the best mean on the validation cases."""
    values = {name: case_values(scores_of(ref), metric) for name, ref in scores.items()}
    means = {name: sum(found.values()) / len(found) for name, found in values.items()}
    return StageResult(computed=len(means), total=len(means), params={"step": best_of(values)}, metrics=means)


@stage("evaluation/keeping.py", "evaluation/intervals.py", "infra/cost.py", "tasks/distilling.py")
def judge_student(
    models: dict[str, Release | TeacherEndpoint],
    scores: dict[str, ArtifactRef],
    loads: dict[str, ArtifactRef],
    parameters: dict[str, int],
    cases: ArtifactRef,
    splits: list[str],
    price: CostSpec,
    spec: DistillSpec,
) -> StageResult:
    """Teacher, student and student without a teacher on the same cases: the table, and whether enough is kept."""
    clusters = clusters_of(cases_of(cases, splits))
    values = {name: case_values(scores_of(ref), spec.metric) for name, ref in scores.items()}
    rows = [
        model_row(
            name,
            values[name],
            clusters,
            load_of(loads[name]) if name in loads else None,
            price,
            parameters.get(name),
            bytes_on_disk(model.model) if isinstance(model, Release) else None,
        )
        for name, model in models.items()
    ]
    share = share_kept(values[STUDENT], values[TEACHER], clusters)
    decision, reasons = decide_kept(
        share, spec.keep_share, parameters[STUDENT], parameters.get(TEACHER), spec.least_ratio
    )
    told = {"verdict": decision, "reasons": [reason.model_dump(mode="json") for reason in reasons], "models": rows}
    with artifact_store().writing("distillation-report") as draft:
        write_atomic(draft.folder / "distillation.json", canonical_json(told))
        write_atomic(draft.folder / "quality.svg", quality_picture(rows, spec.metric))
        write_atomic(draft.folder / "speed.svg", speed_picture(rows))
        write_atomic(draft.folder / "share.svg", share_picture(share, spec.keep_share))
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(rows),
        total=len(rows),
        metrics={"share_kept": share.mean} | {f"{row['model']}_{spec.metric}": row["score"] for row in rows},
        params={"verdict": decision},
        table=rows,
        notes=[f"**{decision}**", *(f"- {reason.rule}: {reason.detail}" for reason in reasons)],
    )
