"""Stages of training data: files, feedback and a teacher where the policy names them, then the dataset."""

from typing import Any

from flows.recording import Recording
from indexes.embedder import EmbedSpec
from infra.store import ArtifactRef
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec
from models.serving.vllm import EngineSpec
from models.training.data_spec import DataSpec
from tasks.corpus import content_of
from tasks.datasets import ask_teacher, make_rows, take_feedback, take_training_files
from tasks.training import ModelSpec, take_model


def dataset_stages(run: Recording, spec: DataSpec, label: str = "") -> ArtifactRef:
    """The dataset that a training of this run learns from; `label` names the stage that puts it together."""
    files = _files(run, spec) if spec.files else None
    feedback = _feedback(run, spec) if spec.feedback else None
    taught = _taught(run, spec) if spec.teacher else None
    made = run.run(make_rows, label, files=files, feedback=feedback, taught=taught, spec=spec, **_prompting(run))
    return made.refs["dataset"]


def _prompting(run: Recording) -> dict[str, Any]:
    """What decides the prompts of rows: they are those of production."""
    return {
        "corpus": run.ref("drop-duplicates", "corpus"),
        "chunks": run.ref("chunk-corpus", "chunks"),
        "index": run.ref("build", "index"),
        "cases": run.ref("read-cases", "cases"),
        "prompt": run.ref("take-prompt", "prompt"),
        "base": run.ref("take-model", "model"),
        "answering": run.policy.section("answering", AnswerSpec),
        "guards": run.policy.section("guards", GuardPolicy),
        "embedding": run.policy.section("embedding", EmbedSpec),
    }


def _files(run: Recording, spec: DataSpec) -> ArtifactRef:
    content = content_of(*(run.policy.folder(file.path) for file in spec.files))
    root = str(run.policy.path.parent.resolve())
    taken = run.run(take_training_files, files=spec.files, limits=spec.file_limits, root=root, content=content)
    return taken.refs["rows"]


def _feedback(run: Recording, spec: DataSpec) -> ArtifactRef:
    guards = run.policy.section("guards", GuardPolicy)
    taken = run.run(take_feedback, prompt=run.ref("take-prompt", "prompt"), guards=guards, spec=spec.feedback)
    return taken.refs["rows"]


def _taught(run: Recording, spec: DataSpec) -> ArtifactRef:
    """The teacher's rows; a teacher without an endpoint is a model of its own, served while it is asked."""
    teacher = spec.teacher
    assert teacher is not None, "asked for the rows of no teacher"
    model = None
    if not teacher.endpoint:
        named = ModelSpec(base=teacher.model)
        source, content = named.source(run.policy), named.content(run.policy)
        model = run.run(take_model, "take-data-teacher", model=source, content=content).refs["model"]
    engine = run.policy.section("engine", EngineSpec)
    asked = run.run(ask_teacher, teacher=model, spec=teacher, rows=spec.by_rule, engine=engine, **_prompting(run))
    return asked.refs["rows"]
