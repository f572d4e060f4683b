"""The servers of one machine besides the engines: Prefect, MLflow, gateway, exporter of traces and runner."""

import contextlib
import secrets
import sys
import tempfile
from pathlib import Path

from infra.processes import ProcessSpec
from infra.settings import ROOT, Policy, Settings
from infra.store import code_version, text_digest

SERVERS = ("prefect", "mlflow", "gateway", "exporter", "runner")
"""Names of the processes that `sluice up` starts, in the order in which they are needed."""


def prefect_environment(settings: Settings) -> dict[str, str]:
    """Variables of every process that talks to Prefect: server, runner, and the command line itself."""
    return {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(settings.home / "results"),
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_API_URL": settings.prefect_address,
        "PREFECT_SERVER_UI_API_URL": settings.prefect_address,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }


def mlflow_server(settings: Settings) -> ProcessSpec:
    """MLflow tracking server on SQLite and local files."""
    folder = settings.home / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    address = f"http://{settings.host}:{settings.mlflow_port}"
    argv = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    argv += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    argv += ["--host", settings.host, "--port", str(settings.mlflow_port)]
    return ProcessSpec(
        name="mlflow",
        argv=tuple(argv),
        env=settings.quiet_environment(),
        port=settings.mlflow_port,
        ready_url=f"{address}/health",
        ready_timeout_s=180,
        port_setting="SLUICE_MLFLOW_PORT",
    )


def prefect_server(settings: Settings) -> ProcessSpec:
    """Prefect server and UI on SQLite."""
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", settings.host]
    return ProcessSpec(
        name="prefect",
        argv=(*argv, "--port", str(settings.prefect_port)),
        env=settings.quiet_environment() | prefect_environment(settings),
        port=settings.prefect_port,
        ready_url=f"http://{settings.host}:{settings.prefect_port}/api/health",
        ready_timeout_s=240,
        port_setting="SLUICE_PREFECT_PORT",
    )


def _places(settings: Settings, policy: Path) -> dict[str, str]:
    """Where a started process finds the project: it runs in another folder than its starter."""
    return {"SLUICE_POLICY": str(policy), "SLUICE_HOME": str(settings.home), "SLUICE_STORE": settings.store_url}


def _read_by_gateway(policy: Path) -> str:
    """Digest of the sections that the gateway reads when it starts: a change of them needs a new one."""
    sections = Policy(policy).sections
    return text_digest(
        repr([sections.get(name) for name in ("gateway", "guards", "embedding", "cost", "cache", "tools")])
    )


def _longest_request_s(policy: Path) -> float:
    """What a request that is in flight may still take when the gateway is told to stop."""
    return float(Policy(policy).sections.get("gateway", {}).get("request_timeout_s", 20))


def gateway(settings: Settings, policy: Path) -> ProcessSpec:
    """The gateway that callers and the canary's traffic use."""
    argv = [
        sys.executable,
        "-m",
        "models.serving.gateway",
        "--host",
        settings.host,
        "--port",
        str(settings.gateway_port),
    ]
    return ProcessSpec(
        name="gateway",
        argv=tuple(argv),
        env=settings.quiet_environment() | _places(settings, policy),
        port=settings.gateway_port,
        ready_url=f"{settings.gateway_address}/health",
        ready_timeout_s=180,
        stop_grace_s=_longest_request_s(policy) + 20,
        port_setting="SLUICE_GATEWAY_PORT",
        version=code_version("infra", "indexes", "models") + _read_by_gateway(policy),
    )


def exporter(settings: Settings, policy: Path) -> ProcessSpec:
    """The process that brings traces from the records to MLflow or another collector."""
    address = ["--host", settings.host, "--port", str(settings.exporter_port)]
    return ProcessSpec(
        name="exporter",
        argv=(sys.executable, "-m", "models.tracing.process", *address),
        env=settings.quiet_environment() | _places(settings, policy),
        port=settings.exporter_port,
        ready_url=f"http://{settings.host}:{settings.exporter_port}/metrics",
        ready_timeout_s=120,
        stop_grace_s=70,
        port_setting="SLUICE_EXPORTER_PORT",
        version=code_version("infra", "models/tracing")
        + text_digest(repr([Policy(policy).sections.get("traces"), settings.otlp_url])),
    )


def runner(settings: Settings, policy: Path) -> ProcessSpec:
    """The process that serves every deployment of prefect.yaml and starts their runs."""
    address = f"http://{settings.host}:{settings.runner_port}"
    return ProcessSpec(
        name="runner",
        argv=(sys.executable, "-m", "flows.serve"),
        env=settings.quiet_environment()
        | prefect_environment(settings)
        | _places(settings, policy)
        | {
            "PREFECT_RUNNER_SERVER_PORT": str(settings.runner_port),
            "PREFECT_RUNNER_SERVER_HOST": settings.host,
            "PREFECT_RUNNER_SERVER_ENABLE": "true",
        },
        port=settings.runner_port,
        ready_url=f"{address}/health",
        ready_timeout_s=120,
        stop_grace_s=60,
        port_setting="SLUICE_RUNNER_PORT",
        version=code_version("flows", "tasks") + str(ROOT),
    )


def gateway_key(settings: Settings) -> str:
    """The local operator's key to the gateway: made at first use, kept in a file that only its owner reads."""
    path = settings.home / "gateway.key"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".gateway.key.") as made:  # mode 600
            made.write(secrets.token_urlsafe(32))
            made.flush()
            with contextlib.suppress(FileExistsError):  # another process was first: its key holds
                path.hardlink_to(made.name)
    return path.read_text("utf-8").strip()
