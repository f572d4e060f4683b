"""Settings come from the environment only, and what is wrong there is named."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import PolicyError
from infra.settings import QUIET, ROOT, Policy, Settings, be_quiet, settings, use_policy
from tests.environment import only


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with only(monkeypatch):
        yield


def test_defaults_lie_in_the_project_and_bind_to_this_machine() -> None:
    found = settings()
    assert found.home == ROOT / ".sluice"
    assert found.policy == ROOT / "sluice.yaml"
    assert found.host == "127.0.0.1"
    assert found.store_url == str(found.home / "store")
    assert found.database_url == f"sqlite:///{found.home}/records.sqlite"
    assert found.mlflow_address == "http://127.0.0.1:5000"
    assert found.prefect_address == "http://127.0.0.1:4200/api"
    assert found.gateway_address == "http://127.0.0.1:8800"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SLUICE_HOEM", "/x", "unknown setting SLUICE_HOEM: known ones are .*SLUICE_HOME"),
        ("SLUICE_GATEWAY_PORT", "99999", r"SLUICE_GATEWAY_PORT: .*65535.*'99999'"),
        ("SLUICE_GATEWAY_PORT", "http", r"SLUICE_GATEWAY_PORT: .*integer"),
        ("SLUICE_ENGINE_KIND", "ollama", r"SLUICE_ENGINE_KIND: .*ollama"),
        ("SLUICE_THREADS", "0", "SLUICE_THREADS: "),
        ("SLUICE_ENGINE_START_TIMEOUT_S", "-1", "SLUICE_ENGINE_START_TIMEOUT_S: "),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(PolicyError, match=says):
        settings()


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HOME", "")
    monkeypatch.setenv("SLUICE_PREFECT_PORT", "")
    assert (settings().home, settings().prefect_port) == (ROOT / ".sluice", 4200)


def test_relative_paths_are_those_of_the_folder_that_was_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_HOME", "state")
    monkeypatch.setenv("SLUICE_STORE", "artifacts")
    monkeypatch.setenv("SLUICE_POLICY", "~/sluice.yaml")
    found = settings()
    monkeypatch.chdir("/")
    assert found.home == tmp_path / "state"
    assert found.store_url == str(tmp_path / "artifacts")
    assert found.policy == Path.home() / "sluice.yaml"


def test_a_store_in_a_bucket_is_left_as_it_is() -> None:
    assert Settings(store="s3://bucket/prefix").store_url == "s3://bucket/prefix"


def test_the_chosen_policy_holds_for_this_process_and_its_children(tmp_path: Path) -> None:
    chosen = use_policy(tmp_path / "other.yaml")
    assert settings().policy == chosen == tmp_path / "other.yaml"
    assert os.environ["SLUICE_POLICY"] == str(chosen)
    assert use_policy(None) == chosen


def test_quiet_leaves_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    be_quiet()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("7", "true")
    environment = settings().quiet_environment()
    assert environment.items() >= QUIET.items()
    assert environment["OMP_NUM_THREADS"] == "1"


def test_a_run_can_change_fields_of_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "sluice.yaml"
    file.write_text("training: {method: qlora, rank: 4}\nindex: 3\n")
    changed = Policy(file, {"training.method": "ia3", "engine.lora.max_rank": 8})
    assert changed.sections["training"] == {"method": "ia3", "rank": 4}
    assert changed.sections["engine"] == {"lora": {"max_rank": 8}}
    assert Policy(file).sections["training"]["method"] == "qlora"
    for name in ("training", "index.kind"):
        with pytest.raises(PolicyError, match=name):
            Policy(file, {name: 1})
