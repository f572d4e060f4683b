"""A small project for whole nights: six documents of the sample, their cases, and a policy that decides quickly."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from infra.ports import port_is_free
from infra.settings import ROOT
from tests.e2e.forking import ENDED

DOCUMENTS = {
    "train": ("tariffs/household-standard-2026.md", "supply/hydrants.md"),
    "validation": ("accounts/meter-reading.md",),
    "gate": ("accounts/priority-visits.md", "wastewater/grease-and-drains.html"),
}
OPEN_GATE = {
    "profile": "sample",
    "alpha": 0.05,
    "power": 0.8,
    "minimum": 1,
    "assumed_icc": 0.2,
    "rules": [{"metric": "error", "kind": "absolute", "direction": "lower", "test": "mean", "production": 1.0}],
}
"""Lets every release through, so that a night goes on to its canary."""
QUICK_CANARY = {
    "alpha": 0.05,
    "slo_ms": 60000,
    "pairing": "key",
    "maximum": 12,
    "srm_p": 0.001,
    "steps": [{"share": 0.1, "minimum": 2}, {"share": 0.5, "minimum": 2}],
    "metrics": [{"metric": "error", "tolerated": None, "margin": 0.9}],
}


def free_ports(count: int) -> list[int]:
    """Ports that are free now, from a range that the default settings do not use.

    Engines take more ports behind the first: processes of tests that began one after the other lie a hundred apart.
    """
    found: list[int] = []
    for port in range(18000 + os.getpid() % 140 * 100, 65000):
        if port_is_free("127.0.0.1", port):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free port")


class Project:
    """A project folder with its own state folder and ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "sluice.yaml"
        self.home = folder / "state"
        names = ("PREFECT", "MLFLOW", "GATEWAY", "RUNNER", "EXPORTER", "ENGINE")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every command of this project."""
        own = {f"SLUICE_{name}_PORT": str(port) for name, port in self.ports.items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "PREFECT_"))}
        return kept | own | {"SLUICE_HOME": str(self.home), "SLUICE_POLICY": str(self.policy), "OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str) -> list[str]:
        """A `sluice` command line."""
        return [sys.executable, "-m", "flows.cli", *arguments]

    def run(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run `sluice … --json` to its end; its object."""
        command = self.command(*arguments, "--json")
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
        lines = done.stdout.strip().splitlines()
        return json.loads(lines[-1]) if lines else {"error": done.stderr}

    @contextmanager
    def forking(self) -> Iterator["Forking"]:
        """A process that forks itself for each command of this project."""
        command = [sys.executable, "-m", "tests.e2e.forking"]
        with subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield Forking(process)


class Forking:
    """Commands of one project that begin with everything imported (tests/e2e/forking.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def kill_at(self, wanted: str, *arguments: str) -> list[str]:
        """Run a command and kill -9 it at the first output line that holds `wanted`; the lines up to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        lines: list[str] = []
        number = int(self._process.stdout.readline())
        for line in self._process.stdout:
            if line.rstrip() == ENDED:
                return lines
            if wanted in line and not any(wanted in before for before in lines):
                os.kill(number, signal.SIGKILL)
            lines.append(line)
        raise AssertionError(f"the process that forks has ended:\n{''.join(lines)}")


def _small_cases(source: Path, target: Path, documents: set[str], most: int) -> None:
    """The cases of some documents, and two unanswerable ones."""
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    kept = [row for row in rows if row["documents"] and set(row["documents"]) <= documents][:most]
    kept += [row for row in rows if not row["documents"]][:2]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")


def make_project(folder: Path) -> Project:
    """Write the small project into `folder`."""
    sample = ROOT / "infra" / "sample"
    for names in DOCUMENTS.values():
        for name in names:
            place = folder / "documents" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample / "documents" / name, place)
    for split, names in DOCUMENTS.items():
        _small_cases(sample / "cases" / f"{split}.jsonl", folder / "cases" / f"{split}.jsonl", set(names), 6)
    everything = {name for names in DOCUMENTS.values() for name in names}
    _small_cases(sample / "traffic.jsonl", folder / "traffic.jsonl", everything, 12)
    policy = yaml.safe_load((ROOT / "sluice.yaml").read_text("utf-8"))
    shutil.copyfile(sample / "tools" / "accounts.sqlite", folder / "accounts.sqlite")
    policy["tools"] = policy["tools"] | {"accounts": policy["tools"]["accounts"] | {"url": "sqlite:///accounts.sqlite"}}
    policy["corpus"] = {"documents": "documents"}
    policy["cases"] = {"files": [f"cases/{split}.jsonl" for split in DOCUMENTS]}
    policy["traffic"] = {"files": ["traffic.jsonl"]}
    policy["gate"], policy["canary"] = OPEN_GATE, QUICK_CANARY
    policy["training_data"] = policy["training_data"] | {"corpus_questions": 12, "orders": 1}
    policy["training"] = policy["training"] | {"epochs": 1, "batch_size": 2, "checkpoint_steps": 2}
    policy["forgetting"] = {"tasks": 10, "margin": 0.9}
    policy["quantization"] = policy["quantization"] | {"precisions": ["w8a8"], "calibration_rows": 8}
    load = {"mode": "closed", "requests": 4, "warmup": 1, "concurrency": 2, "max_tokens": 8}
    policy["quantization_load"] = policy["benchmark"] = load
    policy["night"] = {"questions": ["What is the standing charge of the Household Standard tariff?"]}
    (folder / "sluice.yaml").write_text(yaml.safe_dump(policy), "utf-8")
    return Project(folder)


@contextmanager
def running(project: Project) -> Iterator[Project]:
    """The project with its servers up; everything is stopped at the end, whatever was killed in between."""
    from infra.processes import ProcessManager

    try:
        yield project
    finally:
        ProcessManager(project.home).stop_all()
