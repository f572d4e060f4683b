"""How tasks are retried, cached and placed: the presets, and the content key that decides if a stage has to run."""

import time
from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any, ParamSpec
from uuid import UUID

from prefect import Task, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.results import get_result_store
from pydantic import BaseModel, ConfigDict, Field

from infra.errors import IntegrityError, TryAgainError
from infra.s3 import open_store
from infra.settings import ROOT, settings
from infra.store import ArtifactRef, ArtifactStore, canonical_json, code_version, value_digest

P = ParamSpec("P")


class StageResult(BaseModel):
    """What a stage hands on: artifacts by name, how much was computed of how much, and figures for people."""

    model_config = ConfigDict(frozen=True)

    refs: dict[str, ArtifactRef] = Field(default_factory=dict)
    computed: int = 0
    """Units of work done in this run (documents, chunks, steps, cases)."""
    total: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    params: dict[str, str] = Field(default_factory=dict)
    table: list[dict[str, Any]] = Field(default_factory=list)
    """Rows for a Prefect table artifact."""
    notes: list[str] = Field(default_factory=list)
    curve: list[tuple[int, float]] = Field(default_factory=list)
    """(step, loss) of a training stage."""


def artifact_store() -> ArtifactStore:
    """The store that the settings name. Built inside a task, never passed to one."""
    return open_store(settings().store_url, settings().home)


def _plain(value: object) -> object:
    """An input as plain data for the key: an artifact counts by its digest, wherever it lies."""
    if isinstance(value, ArtifactRef):
        return [value.kind, value.digest]
    if isinstance(value, StageResult):
        return {name: _plain(ref) for name, ref in value.refs.items()}
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=canonical_json)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a default may be written 95 where a file's value is read as 95.0
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


def stage_key(name: str, code: tuple[str, ...], inputs: dict[str, Any]) -> str:
    """Key of a stage: its name, the version of the code that does the work, and the content of its inputs."""
    return f"{name}-{value_digest([code_version(*code), _plain(inputs)])[:40]}"


def _may_serve(key: str) -> bool:
    """Whether a stage can use this key: nothing is kept under it, or a result whose artifacts all have their digest."""
    results = get_result_store()
    if not results.exists(key):
        return True
    kept = results.read(key).result
    assert isinstance(kept, StageResult), f"kept result {key} is a {type(kept).__name__}"
    store = artifact_store()
    try:
        for ref in kept.refs.values():
            store.open(ref)
    except IntegrityError:
        return False
    return True


def _usable_key(key: str) -> str:
    """The key itself, or with a number behind it where the kept result names damaged artifacts: then the stage runs."""
    return next(name for number in count() if _may_serve(name := f"{key}-{number}" if number else key))


def _is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Only what says itself that it may work later is tried again; wrong input stays wrong."""
    error = state.data if isinstance(state.data, BaseException) else state.result(raise_on_failure=False)
    return isinstance(error, TryAgainError | ConnectionError)


def stage(
    *code: str, retries: int = 2, timeout_s: float = 1800, cached: bool = True
) -> Callable[[Callable[P, StageResult]], Task[P, StageResult]]:
    """Make a function a stage of a night: retried with backoff, timed out, and kept by content.

    `code` names the files and packages whose source decides the result. A kept result is used only if every artifact
    that it names still has its digest.
    """

    def decorate(function: Callable[P, StageResult]) -> Task[P, StageResult]:
        name = function.__name__.replace("_", "-")
        missing = [part for part in code if not (ROOT / part).exists()]
        assert not missing, f"{name}: no such source {missing}"

        def key(_context: TaskRunContext, inputs: dict[str, Any]) -> str:
            return _usable_key(stage_key(name, code, inputs))

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> StageResult:
            return function(*args, **kwargs)

        decorated: Task[P, StageResult] = task(
            name=name,
            cache_key_fn=key if cached else None,
            persist_result=cached,
            result_serializer="json" if cached else None,
            retries=retries,
            retry_delay_seconds=[2.0, 10.0],
            retry_jitter_factor=0.5,
            retry_condition_fn=_is_worth_retrying,
            timeout_seconds=timeout_s,
        )(call)
        return decorated

    return decorate


def progress_logger(name: str, unit: str, every_s: float = 5.0) -> Callable[[int, int], None]:
    """Progress of long work on the run's page: a Prefect progress artifact and a log line every few seconds."""
    logger = get_run_logger()
    artifact = create_progress_artifact(progress=0.0, key=f"{name}-progress", description=f"{name}: {unit}")
    assert isinstance(artifact, UUID), "progress is reported from synchronous tasks"
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if total and (done >= total or now - last >= every_s):
            last = now
            update_progress_artifact(artifact, progress=100.0 * done / total)
            logger.info("%s: %d of %d %s", name, done, total, unit)

    return report
