"""The MLflow side on a database without a server: runs, artifacts by digest, releases, aliases."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import SetupError
from infra.settings import be_quiet
from infra.store import ArtifactRef
from infra.telemetry import REGISTERED_MODEL, Tracker

A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    be_quiet()
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # without a server artifacts go into the working folder
        yield Tracker(f"sqlite:///{folder / 'mlflow.db'}")


def ref(name: str, digest: str = A) -> ArtifactRef:
    return ArtifactRef(kind=name, digest=digest, uri=f"/store/{name}/{digest}")


def test_a_stage_is_a_run_under_the_night(tracker: Tracker, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>hello</p>")
    parent = tracker.start("night", tags={"sluice.flow": "nightly"})
    child = tracker.start("embed", parent)
    tracker.log(
        child,
        params={"embedder": "minilm", "long": "x" * 9000},
        metrics={"computed": 0, "recall_at_5": 0.75},
        artifacts={"index": ref("index", B)},
        inputs={"vectors": ref("vectors"), "again": ref("vectors"), "chunks": ref("chunks", B)},
        files=[page],
        texts={"note.txt": "hello"},
        table=[{"metric": "recall", "value": 0.75}, {"metric": "errors", "cases": 3}],
    )
    tracker.curve(child, "loss", [(step, 1 / step) for step in range(1, 2500)])
    tracker.end(child, ok=True)
    tracker.end(parent, ok=False)
    found = tracker.client.get_run(child)
    assert found.info.status == "FINISHED"
    assert tracker.client.get_run(parent).info.status == "FAILED"
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.params["embedder"] == "minilm"
    assert len(found.data.params["long"]) == 6000
    assert found.data.metrics.items() >= {"computed": 0.0, "recall_at_5": 0.75, "loss": 1 / 2499}.items()
    assert len(tracker.client.get_metric_history(child, "loss")) == 2499
    assert found.data.tags["artifact.index"] == f"index {B} /store/index/{B}"
    assert found.inputs is not None
    inputs = {item.dataset.name: json.loads(item.dataset.source) for item in found.inputs.dataset_inputs}
    assert inputs == {
        "vectors": {"digest": A, "uri": f"/store/vectors/{A}"}, "chunks": {"digest": B, "uri": f"/store/chunks/{B}"},
    }  # fmt: skip
    names = [item.path for item in tracker.client.list_artifacts(child)]
    assert names == ["note.txt", "report.html", "table.json"]
    shown = tracker.client.load_table(tracker.experiment, "table.json", [child])
    assert list(shown["metric"]) == ["recall", "errors"]
    assert tracker.run_address(child).endswith(f"/runs/{child}")


def test_a_run_without_anything(tracker: Tracker) -> None:
    run = tracker.start("empty")
    tracker.log(run)
    tracker.curve(run, "loss", [])
    tracker.end(run, ok=True)
    assert tracker.client.get_run(run).data.metrics == {}


def test_a_run_whose_process_was_killed(tracker: Tracker) -> None:
    run = tracker.start("night", started=1_800_000_000.5)
    assert tracker.end_lost(run)
    info = tracker.client.get_run(run).info
    assert (info.status, info.start_time) == ("KILLED", 1_800_000_000_500)
    assert not tracker.end_lost("0" * 32)


def test_a_release_is_registered_once_and_aliases_follow_the_records(tracker: Tracker) -> None:
    tracker.mirror_aliases({"production": A})  # nothing is registered yet
    run = tracker.start("release")
    first = tracker.register_release(run, A, '{"a": 1}', {"precision": "bf16"})
    assert tracker.register_release(run, A, '{"a": 1}', {"precision": "bf16"}) == first
    second = tracker.register_release(run, B, '{"b": 1}', {})
    assert first != second
    version = tracker.client.get_model_version(REGISTERED_MODEL, first)
    assert version.tags == {"release": A, "precision": "bf16"}

    def aliases() -> dict[str, str]:
        return {name: str(at) for name, at in tracker.client.get_registered_model(REGISTERED_MODEL).aliases.items()}

    tracker.mirror_aliases({"production": A, "canary": B})
    assert aliases() == {"production": first, "canary": second}
    tracker.mirror_aliases({"production": B, "previous": A, "candidate": "c" * 64})
    tracker.mirror_aliases({"production": B, "previous": A, "candidate": "c" * 64})
    assert aliases() == {"production": second, "previous": first}


def test_processes_that_start_at_once_share_the_experiment(tracker: Tracker) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: Tracker(tracker.address).experiment, range(4)))
    assert found == {tracker.experiment}


def test_a_wrong_call_is_not_a_server_that_is_away(tracker: Tracker) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="not found"):
        tracker.end("0" * 32, ok=True)


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:9 does not answer.*sluice up"):
        Tracker("http://127.0.0.1:9")
