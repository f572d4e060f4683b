"""One run of a flow as it is recorded: its lock, stages with times and counts, MLflow runs, Prefect artifacts."""

import fcntl
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO
from uuid import UUID

from prefect import State, Task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Crashed
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.checking import check_policy
from flows.live import LiveRun
from flows.printing import cell
from indexes.changes import Change
from infra.errors import TryAgainError
from infra.settings import Policy, Spec, settings, use_policy
from infra.store import ArtifactRef
from infra.telemetry import Tracker
from tasks.live import watched_by
from tasks.policy import StageResult, artifact_store
from tasks.releasing import NightSpec

StageStatus = Literal["done", "cached", "failed"]
SHOWN = 500
"""Rows of a table on a run's page, at most."""


class StageRow(Spec):
    """A line of the summary: one stage of one run."""

    status: StageStatus
    seconds: float
    computed: int
    """Units of work done now; 0 when the kept result was used."""
    total: int


class RunSpec(Spec):
    """What every flow asks."""

    policy: Path | None = None
    """Policy file of the project to run. None: the one that SLUICE_POLICY names."""
    when_busy: Literal["wait", "leave"] | None = None
    """What to do while another run works on the same state: wait or leave. None: as the policy file says."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Fields of the policy file that this run changes, by their dotted names: {"training.method": "ia3"}."""


class Summary(BaseModel):
    """What a flow returns: its stages in order and every figure they gave."""

    model_config = ConfigDict(frozen=True)

    flow: str
    seconds: float
    stages: dict[str, StageRow]
    documents: dict[str, int]
    """Documents added, changed, removed and renamed since the last run on this state folder."""
    metrics: dict[str, dict[str, float]]
    mlflow_run: str


class Recording:
    """Runs stages and keeps their story; `results` has what each stage handed on."""

    def __init__(self, name: str, policy: Policy, tracker: Tracker) -> None:
        self.name = name
        self.policy = policy
        self.tracker = tracker
        self.stages: dict[str, StageRow] = {}
        self.results: dict[str, StageResult] = {}
        self.documents: dict[str, int] = {}
        self.started = time.time()
        self.mlflow_run = tracker.start(f"{name} {time.strftime('%m-%d %H:%M')}", tags={"sluice.flow": name})

    @property
    def logger(self) -> "logging.Logger | logging.LoggerAdapter[Any]":
        """Logger whose lines the Prefect UI shows with the run."""
        return get_run_logger()

    def run(self, stage: "Task[..., StageResult]", label: str = "", /, **inputs: Any) -> StageResult:
        """Run a stage, or take its kept result, and record it. A failed stage is recorded and its error raised."""
        name = label or stage.name
        started, begun = time.time(), time.perf_counter()
        PROGRESS.info("%s …", name)
        live = LiveRun(self.tracker, self.mlflow_run, name, started)
        with watched_by(live.take):
            state: Any = stage.with_options(task_run_name=name)(**inputs, return_state=True)
        seconds = round(time.perf_counter() - begun, 3)
        if not state.is_completed():
            self._failed(live, seconds, state)
        result: StageResult = state.result()
        cached = state.name == "Cached"
        computed = 0 if cached else result.computed
        status: StageStatus = "cached" if cached else "done"
        self.stages[name] = StageRow(status=status, seconds=seconds, computed=computed, total=result.total)
        self.results[name] = result
        self._say(name, f"{computed} of {result.total} computed, ")
        used = {part: ref for part, ref in inputs.items() if isinstance(ref, ArtifactRef)}
        self._track(live, used, result)
        return result

    def ref(self, stage: str, part: str) -> ArtifactRef:
        """An artifact that an earlier stage of this run handed on."""
        return self.results[stage].refs[part]

    def tell_changes(self, found: Sequence[Change]) -> None:
        """Show on the run's page what differs in the corpus since the last run, and count it."""
        self.documents = dict(Counter(change.change for change in found))
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self.documents.items())) or "none differs"
        self.logger.info("documents since the last run: %s", told)
        if found:
            rows = [change._asdict() for change in found[:SHOWN]]
            create_table_artifact(table=rows, key="documents-changed", description=f"Since the last run: {told}")

    def show_stages(self) -> None:
        """A table of the stages on the run's page: what was computed, of how much."""
        rows = [{"stage": name, **row.model_dump()} for name, row in self.stages.items()]
        if rows:
            done = sum(row.status == "done" for row in self.stages.values())
            told = f"{self.name}: {done} of {len(rows)} stages had work to do"
            create_table_artifact(table=rows, key=f"{self.name}-stages", description=told)

    def summary(self) -> Summary:
        """The run so far."""
        return Summary(
            flow=self.name,
            seconds=round(time.time() - self.started, 1),
            stages=self.stages,
            documents=self.documents,
            metrics={name: result.metrics for name, result in self.results.items()},
            mlflow_run=self.tracker.run_address(self.mlflow_run),
        )

    def _say(self, name: str, done: str = "") -> None:
        """One line about a stage that has ended, with its row for who wants the figures."""
        row = self.stages[name]
        line = f"{name}: {row.status}, {done}{row.seconds:.1f} s"
        self.logger.info(line)
        PROGRESS.info(line, extra={"stage": name, "row": row})

    def _failed(self, live: LiveRun, seconds: float, state: Any) -> NoReturn:
        """Record a failed stage and raise its error. Raises TryAgainError for one that took too long."""
        name = live.name
        self.stages[name] = StageRow(status="failed", seconds=seconds, computed=0, total=0)
        self._say(name)
        try:
            live.flush()
            self.tracker.end(live.opened("failed"), ok=False)
        finally:
            if state.name == "TimedOut":
                raise TryAgainError(f"{name} was stopped after {seconds:.0f} s, its time limit")
            state.result(raise_on_failure=True)
        raise AssertionError(f"{name}: neither completed nor failed: {state}")

    def _track(self, live: LiveRun, used: dict[str, ArtifactRef], result: StageResult) -> None:
        row = self.stages[live.name]
        live.flush()
        run = live.opened(row.status)
        counts = {"seconds": row.seconds, "computed": float(row.computed), "total": float(row.total)}
        figures = counts | result.metrics
        self.tracker.log(
            run,
            params=result.params,
            metrics=figures,
            artifacts=result.refs,
            inputs=used,
            files=_pictures(result),
            table=_cells(result),
        )
        before = [(step, loss) for step, loss in result.curve if ("loss", step) not in live.seen]
        if before:  # a cached stage's, or those of a run before a kill
            self.tracker.curve(run, "loss", before)
        self.tracker.end(run, ok=True)
        if row.status == "done":
            self._show(live.name, result)

    def _show(self, name: str, result: StageResult) -> None:
        """A stage's table, notes and artifacts on its page in the Prefect UI."""
        key = name.lower().replace("_", "-").replace(" ", "-").replace(".", "-")
        if result.table:
            create_table_artifact(table=_cells(result), key=f"{key}-table", description=f"{name}: figures")
        lines = [f"# {name}", *result.notes, "", "| artifact | digest |", "|---|---|"]
        lines += [f"| {part} | `{ref.kind} {ref.digest}` |" for part, ref in result.refs.items()]
        create_markdown_artifact("\n".join(lines), key=key, description=f"{name}: what it made")
        docs = result.refs.get("data-docs")
        if docs:
            create_markdown_artifact(
                f"Data Docs of Great Expectations, to open from here: `{data_docs(docs)}`",
                key=f"{key}-docs",
                description=f"{name}: what was checked",
            )


def _cells(result: StageResult) -> list[dict[str, Any]]:
    """A stage's table as people read it."""
    return [{column: cell(value) for column, value in row.items()} for row in result.table]


def _pictures(result: StageResult) -> list[Path]:
    """The pictures in a stage's report artifact (`*.svg`), which MLflow's page of the run shows."""
    report = result.refs.get("report")
    return sorted(artifact_store().open(report).glob("*.svg")) if report else []


def data_docs(ref: ArtifactRef) -> str:
    """Address of the first page of Data Docs in the store, a folder or a bucket."""
    return f"{ref.uri if '://' in ref.uri else f'file://{ref.uri}'}/files/index.html"


PROGRESS = logging.getLogger("sluice.progress")
"""One line when a stage begins and one when it ends, for whoever watches (the command line does)."""


class Holder(BaseModel):
    """Who holds the state folder: stands in the lock file while a run lives, and is taken out at its end."""

    pid: int
    flow_run: str = ""
    """Id of the Prefect flow run."""
    mlflow_run: str = ""


class _Lock:
    """The lock file of the state folder. `before` is a holder that died without ending its run."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.before = self.read()

    def read(self) -> Holder | None:
        """The holder that the file names; None for what no run has written whole."""
        self._file.seek(0)
        try:
            return Holder.model_validate_json(self._file.read())
        except ValidationError:
            return None

    def write(self, holder: Holder | None) -> None:
        """Name the holder, or nobody."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(holder.model_dump_json() if holder else "")
        self._file.flush()


@contextmanager
def _alone(when_busy: str) -> Iterator[_Lock]:
    """Hold the lock of the state folder; the kernel frees it when the process dies, however it dies."""
    home = settings().home
    home.mkdir(parents=True, exist_ok=True)
    with (home / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _Lock(file).before
            who = f"process {holder.pid}" if holder else "another process"
            if when_busy == "leave":
                raise TryAgainError(f"another run holds {home} ({who}); left, as asked") from error
            get_run_logger().info("waiting for the run of %s to end", who)
            PROGRESS.info("waiting for the run of %s to end", who)
            fcntl.flock(file, fcntl.LOCK_EX)
        lock = _Lock(file)
        lock.write(Holder(pid=os.getpid()))
        yield lock


def _bury(dead: Holder, tracker: Tracker) -> None:
    """Say in MLflow and Prefect that a run ended which was killed: its lock is free, so it cannot be alive."""
    get_run_logger().warning("the run of process %d was killed; going on where it was", dead.pid)
    if dead.mlflow_run and not tracker.end_lost(dead.mlflow_run):
        get_run_logger().info("MLflow does not know the killed run %s any more", dead.mlflow_run)
    if dead.flow_run:
        with get_client(sync_client=True) as client:
            crashed: State[Any] = Crashed(message="killed: a later run found its lock free")
            try:
                client.set_flow_run_state(UUID(dead.flow_run), crashed, force=True)
            except ObjectNotFound:
                get_run_logger().info("Prefect does not know the killed run %s any more", dead.flow_run)


def _flow_run() -> str:
    """Id of the Prefect run that this code is in."""
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else ""


@contextmanager
def recording(name: str, spec: RunSpec) -> Iterator[Recording]:
    """A run of flow `name` alone on its state folder, with its MLflow parent run closed as it ended."""
    policy = Policy(use_policy(spec.policy), spec.overrides)
    check_policy(policy, name)
    with _alone(spec.when_busy or policy.section("night", NightSpec).when_busy) as lock:
        try:
            tracker = Tracker(settings().mlflow_address)
            if lock.before:
                _bury(lock.before, tracker)
            run = Recording(name, policy, tracker)
        except BaseException:
            lock.write(lock.before)  # nothing began: who was killed before is still to be buried
            raise
        lock.write(Holder(pid=os.getpid(), flow_run=_flow_run(), mlflow_run=run.mlflow_run))
        ok = False
        try:
            yield run
            ok = True
        finally:
            try:
                run.show_stages()
            finally:
                run.tracker.end(run.mlflow_run, ok)
                lock.write(None)
