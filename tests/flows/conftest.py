"""Prefect's harness and an MLflow database for all flow tests, and a small project for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import be_quiet
from infra.telemetry import Tracker
from tests.environment import only
from tests.flows.project import Project


@pytest.fixture(scope="session", autouse=True)
def harness() -> Iterator[None]:
    """Prefect's temporary server and database."""
    be_quiet()
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tracking address of a database without a server, with the experiment in it."""
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # without a server artifacts go below the folder in which the experiment is made
        Tracker(address)
    return address


@pytest.fixture
def project(tmp_path: Path, mlflow_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project that the settings of this process name; Prefect keeps results under its state folder."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    made = Project(tmp_path / "project")
    with (
        only(monkeypatch, HOME=made.home, POLICY=made.policy, MLFLOW_URL=mlflow_address),
        temporary_settings(updates={PREFECT_LOCAL_STORAGE_PATH: made.home / "results"}),
    ):
        yield made
