"""What the servers of one machine are started with, and the operator's key."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from infra.processes import ProcessSpec
from infra.services import (
    SERVERS,
    exporter,
    gateway,
    gateway_key,
    mlflow_server,
    prefect_environment,
    prefect_server,
    runner,
)
from infra.settings import QUIET, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "state",
        prefect_port=4201,
        mlflow_port=5001,
        gateway_port=8801,
        runner_port=8802,
        exporter_port=8803,
        threads=3,
    )


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "sluice.yaml"
    path.write_text(yaml.safe_dump({"gateway": {"max_queued": 1}, "guards": {}, "gate": {"alpha": 0.05}}), "utf-8")
    return path


def specs(settings: Settings, policy: Path) -> dict[str, ProcessSpec]:
    made = [
        prefect_server(settings), mlflow_server(settings), gateway(settings, policy), exporter(settings, policy),
        runner(settings, policy),
    ]  # fmt: skip
    return {spec.name: spec for spec in made}


def test_every_server_binds_to_the_host_and_says_nothing_to_others(settings: Settings, policy: Path) -> None:
    found = specs(settings, policy)
    assert tuple(found) == SERVERS
    for name, spec in found.items():
        assert spec.ready_url.startswith(f"http://127.0.0.1:{spec.port}/"), name
        assert spec.env.items() >= QUIET.items()
        assert spec.env["OMP_NUM_THREADS"] == "3"
        assert spec.port_setting == f"SLUICE_{name.upper()}_PORT"
        assert not any("key" in part.lower() for part in spec.argv)
    for name in ("prefect", "mlflow", "gateway", "exporter"):
        argv = found[name].argv
        assert argv[argv.index("--host") + 1] == "127.0.0.1"
        assert argv[argv.index("--port") + 1] == str(found[name].port)


def test_started_processes_find_the_project(settings: Settings, policy: Path) -> None:
    found = specs(settings, policy)
    for name in ("gateway", "exporter", "runner"):
        assert found[name].env["SLUICE_POLICY"] == str(policy)
        assert found[name].env["SLUICE_HOME"] == str(settings.home)
        assert found[name].env["SLUICE_STORE"] == str(settings.home / "store")
    for name in ("prefect", "runner"):
        assert found[name].env.items() >= prefect_environment(settings).items()
    assert prefect_environment(settings)["PREFECT_API_URL"] == "http://127.0.0.1:4201/api"
    assert prefect_environment(settings)["PREFECT_LOCAL_STORAGE_PATH"] == str(settings.home / "results")


def test_a_remote_prefect_is_named_to_who_talks_to_it(tmp_path: Path) -> None:
    far = Settings(home=tmp_path, prefect_url="https://prefect.example/api")
    assert prefect_environment(far)["PREFECT_API_URL"] == "https://prefect.example/api"


Change = Callable[[dict[str, dict[str, object]]], object]


@pytest.mark.parametrize(
    ("change", "another"),
    [
        (lambda sections: sections["gateway"].update(max_queued=2), True),
        (lambda sections: sections["guards"].update(allowed=["x"]), True),
        (lambda sections: sections.update(embedding={"model": "other"}), True),
        (lambda sections: sections["gate"].update(alpha=0.1), False),
    ],
)
def test_only_what_the_gateway_reads_makes_another_gateway(
    settings: Settings, policy: Path, change: Change, another: bool
) -> None:
    before = gateway(settings, policy).digest
    assert gateway(settings, policy).digest == before
    sections = yaml.safe_load(policy.read_text("utf-8"))
    change(sections)
    policy.write_text(yaml.safe_dump(sections), "utf-8")
    assert (gateway(settings, policy).digest != before) is another


def test_the_key_is_made_once_and_only_its_owner_reads_it(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: gateway_key(settings), range(32)))
    assert len(keys) == 1
    assert len(keys.pop()) >= 32
    file = settings.home / "gateway.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["gateway.key"]
    file.write_text("mine\n")
    assert gateway_key(settings) == "mine"
