"""`sluice run` as a process of its own, against servers that run already: one JSON object, exit codes, no strays."""

import json
import os
import subprocess
import sys
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from infra.settings import ROOT
from tests.flows.project import Project


def sluice(project: Project, *arguments: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"SLUICE_PREFECT_URL": str(PREFECT_API_URL.value()), "HOME": str(project.folder), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(argv, cwd=project.folder, env=kept | own, capture_output=True, text=True, check=False)


def runs() -> int:
    with get_client(sync_client=True) as client:
        return len(client.read_flow_runs())


def test_one_object_on_standard_output(project: Project) -> None:
    project.write("torn.md", "# Torn\n\nThe fee of the harbour office is \ufffd\ufffd euros a year, paid in March.\n")
    before = runs()
    done = sluice(project, "run", "ingest", "--json")
    assert done.returncode == 2, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert "torn.md" in told["error"]
    assert [(name, row["status"]) for name, row in told["stages"].items()] == [
        ("take-model", "done"), ("read-corpus", "done"), ("drop-duplicates", "done"), ("check-documents", "failed"),
    ]  # fmt: skip
    assert done.stderr.splitlines()[-1] == f"sluice: {told['error']}"
    assert runs() == before + 1, "the run is not on the server that the settings name"
    kept = list((project.home / "results").iterdir())
    assert sum(path.name.startswith(("take-model-", "read-corpus-")) for path in kept) == 2
    assert all(json.loads(path.read_text("utf-8")) for path in kept), "a result that is no JSON"
    assert not (project.folder / ".prefect").exists(), "Prefect took its own defaults"
