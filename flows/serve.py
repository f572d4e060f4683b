"""Serves every deployment of prefect.yaml from this machine: `python -m flows.serve`, started by `sluice up`."""

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment

from infra.errors import PolicyError
from infra.settings import ROOT, be_quiet

RUNS_AT_ONCE = 2
"""Runs of different deployments beside each other; each deployment limits itself to one."""


def _flow(entrypoint: str) -> Flow[..., Any]:
    """The flow object of `flows/file.py:function`."""
    path, _, function = entrypoint.partition(":")
    if not path.startswith("flows/") or not path.endswith(".py") or not function:
        raise PolicyError(f"prefect.yaml: entrypoint {entrypoint!r} is not flows/FILE.py:FLOW")
    found: Flow[..., Any] = getattr(import_module(path.removesuffix(".py").replace("/", ".")), function)
    return found


def _deployment(entry: dict[str, Any]) -> RunnerDeployment:
    schedules = [CronSchedule(cron=item["cron"], timezone=item["timezone"]) for item in entry.get("schedules", [])]
    deployment = _flow(entry["entrypoint"]).to_deployment(
        name=entry["name"],
        description=entry["description"],
        tags=entry["tags"],
        schedules=schedules or None,
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
    )
    assert isinstance(deployment, RunnerDeployment)
    return deployment


def deployments(path: Path = ROOT / "prefect.yaml") -> list[RunnerDeployment]:
    """Every deployment that the file names."""
    return [_deployment(entry) for entry in yaml.safe_load(path.read_text("utf-8"))["deployments"]]


def main() -> None:
    """Register the deployments and run what is scheduled or asked for, until stopped."""
    be_quiet()
    serve(*deployments(), limit=RUNS_AT_ONCE, print_starting_message=False)


if __name__ == "__main__":
    main()
