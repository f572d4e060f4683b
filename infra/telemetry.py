"""MLflow side of Sluice: nights and stages as runs, releases in the registry."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from infra.errors import SetupError, TryAgainError
from infra.store import ArtifactRef

EXPERIMENT = "sluice"
REGISTERED_MODEL = "sluice"
EXPERIMENT_NOTE = (
    "Nights of Sluice, one run a stage under the run of the night; under Traces every answer of the gateway."
)
MODEL_NOTE = "Releases: everything that shapes an answer, one version each. The aliases show what is live."
SHORT_DIGEST = 12
"""Digits of a digest that a column of MLflow's tables has room for."""

WRONG_CALL = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
"""MLflow's error codes that trying again does not mend."""


P = ParamSpec("P")
R = TypeVar("R")


def _translated(method: Callable[P, R]) -> Callable[P, R]:
    """MLflow's errors as TryAgainError, but for those that say that the call itself is wrong."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException

        try:
            return method(*args, **kwargs)
        except MlflowException as error:
            if error.error_code in WRONG_CALL:
                raise
            raise TryAgainError(f"MLflow does not answer: {error}") from error

    return call


class Tracker:
    """Writes runs, metrics and releases to one MLflow server. Every method may raise TryAgainError when it is down."""

    def __init__(self, address: str) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.address = address
        self.client = MlflowClient(tracking_uri=address, registry_uri=address)
        try:
            self.experiment = self._experiment()
        except MlflowException as error:
            raise SetupError(f"MLflow at {address} does not answer: {error}; start it with `sluice up`") from error

    def _experiment(self) -> str:
        """Id of the experiment, made at first use; of two processes that make it at once both get the same."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return str(self.client.create_experiment(EXPERIMENT, tags={"mlflow.note.content": EXPERIMENT_NOTE}))
            except MlflowException as error:
                found = self.client.get_experiment_by_name(EXPERIMENT)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                    raise
        return str(found.experiment_id)

    @_translated
    def start(
        self,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        started: float | None = None,
    ) -> str:
        """Open a run (under `parent` if given) and return its id; it began at `started` (epoch seconds) or now."""
        own = {"mlflow.runName": name, **(tags or {})}
        if parent:
            own["mlflow.parentRunId"] = parent
        begun = int(1000 * (started or time.time()))
        run = self.client.create_run(self.experiment, start_time=begun, tags=own, run_name=name)
        return str(run.info.run_id)

    @_translated
    def log(
        self,
        run: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        artifacts: Mapping[str, ArtifactRef] | None = None,
        inputs: Mapping[str, ArtifactRef] | None = None,
        files: Iterable[Path] = (),
        texts: Mapping[str, str] | None = None,
        table: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """Add to a run. Artifacts are kept as tags (digest and address), `inputs` as datasets; `files`, `texts` and
        the rows of `table` (table.json, a table in MLflow's page) are what a person looks at there.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = time.time_ns() // 1_000_000
        refs = artifacts or {}
        self.client.log_batch(
            run,
            metrics=[Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)[:6000]) for name, value in (params or {}).items()],
            tags=[RunTag(f"artifact.{name}", f"{ref.kind} {ref.digest} {ref.uri}") for name, ref in refs.items()],
        )
        self._log_datasets(run, inputs or {})
        for file in files:
            self.client.log_artifact(run, str(file))
        for name, text in (texts or {}).items():
            self.client.log_text(run, text, name)
        if table:
            columns = dict.fromkeys(name for row in table for name in row)
            self.client.log_table(run, {name: [row.get(name) for row in table] for name in columns}, "table.json")

    def _log_datasets(self, run: str, refs: Mapping[str, ArtifactRef]) -> None:
        """Record artifacts as dataset inputs. The column shows the first digits of the digest; the source has all."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    ref.kind, ref.digest[:SHORT_DIGEST], "sluice", json.dumps({"uri": ref.uri, "digest": ref.digest})
                ),
                [InputTag("mlflow.data.context", name)],
            )
            for name, ref in refs.items()
        ]
        if inputs:
            self.client.log_inputs(run, inputs)

    @_translated
    def curve(self, run: str, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Log a metric's course as (step, value)."""
        self.points(run, [(name, step, value) for step, value in points])

    @_translated
    def points(self, run: str, points: Sequence[tuple[str, int, float]]) -> None:
        """Log (metric, step, value) as they came, with the time of this call."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        for start in range(0, len(points), 1000):
            batch = [Metric(name, value, now, step) for name, step, value in points[start : start + 1000]]
            self.client.log_batch(run, metrics=batch)

    @_translated
    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        for name, value in tags.items():
            self.client.set_tag(run, name, value)

    @_translated
    def end(self, run: str, ok: bool) -> None:
        """Close a run as FINISHED or FAILED."""
        self.client.set_terminated(run, "FINISHED" if ok else "FAILED")

    @_translated
    def end_lost(self, run: str) -> bool:
        """Close a run whose process was killed; False when this server does not have it (any more)."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.set_terminated(run, "KILLED")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def run_address(self, run: str) -> str:
        """Page of a run in MLflow's UI."""
        return f"{self.address}/#/experiments/{self.experiment}/runs/{run}"

    @_translated
    def register_release(self, run: str, digest: str, manifest: str, tags: Mapping[str, str]) -> str:
        """Model version of a release; registering the same digest again returns the version that exists."""
        from mlflow.exceptions import MlflowException

        found = self._version(digest)
        if found:
            return found
        try:
            self.client.create_registered_model(REGISTERED_MODEL, description=MODEL_NOTE)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.client.log_text(run, manifest, "release/release.json")
        source = f"{self.client.get_run(run).info.artifact_uri}/release"
        version = self.client.create_model_version(
            REGISTERED_MODEL,
            source=source,
            run_id=run,
            tags={"release": digest} | {name: value for name, value in tags.items() if value},
            description=f"release {digest[:SHORT_DIGEST]}",
        )
        return str(version.version)

    def _version(self, digest: str) -> str | None:
        for version in self.client.search_model_versions(f"name = '{REGISTERED_MODEL}'"):
            if version.tags.get("release") == digest:
                return str(version.version)
        return None

    @_translated
    def mirror_aliases(self, pointers: Mapping[str, str]) -> None:
        """Make the registry's aliases say what the records say (the records decide; the registry shows)."""
        from mlflow.exceptions import MlflowException

        try:
            shown: dict[str, str] = self.client.get_registered_model(REGISTERED_MODEL).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return
            raise
        for alias, digest in pointers.items():
            version = self._version(digest)
            if version and shown.get(alias) != version:
                self.client.set_registered_model_alias(REGISTERED_MODEL, alias, version)
        for alias in set(shown) - set(pointers):
            self.client.delete_registered_model_alias(REGISTERED_MODEL, alias)
