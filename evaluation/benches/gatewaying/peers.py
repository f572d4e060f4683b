"""Who is measured: our gateway, LiteLLM's proxy and MLflow's gateway, each in a process on the same core.

The peers are installed into environments of their own below the state folder, once, at pinned versions, and run as
their users run them: LiteLLM with a master key and its OpenTelemetry callback, MLflow with usage tracking.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from evaluation.benches.gatewaying import ours
from infra.errors import SetupError
from infra.processes import ProcessManager, ProcessSpec
from infra.settings import Settings
from infra.store import text_digest, write_atomic

REQUIREMENTS = {
    "litellm": (
        "litellm[proxy]==1.108.7",
        "opentelemetry-sdk==1.45.2",
        "opentelemetry-exporter-otlp-proto-http==1.45.2",
    ),
    "mlflow": ("mlflow[gateway]==3.17.2",),
}
MODEL = "instant"
PEER_KEY = "sk-bench"
INSTALL_TIMEOUT_S = 900
START_TIMEOUT_S = 240


@dataclass(frozen=True)
class Target:
    """A server that takes the load; `base_url` without `/v1`."""

    name: str
    base_url: str
    model: str
    key: str = ""
    needs_done: bool = True
    """Whether its streams end with `[DONE]`."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installed(name: str, settings: Settings) -> Path:
    """The folder with the commands of a peer's environment. Raises: SetupError where it cannot be installed."""
    folder = settings.home / "bench-envs" / name
    wanted = "\n".join(REQUIREMENTS[name])
    marker = folder / ".installed"
    if not marker.is_file() or marker.read_text("utf-8") != text_digest(wanted):
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *REQUIREMENTS[name]]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
            if done.returncode:
                raise SetupError(f"bench gateway: {name} cannot be installed: {done.stderr[-800:]}")
        write_atomic(marker, text_digest(wanted))
    return folder / "bin"


class Field:
    """The processes of one run: gateways on one core, upstream and load on another."""

    def __init__(self, settings: Settings, place: Path) -> None:
        """Raises: SetupError on a machine with one core."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SetupError("bench gateway: the load needs a core beside that of the gateway")
        self.settings = settings
        self.place = place
        self.gateway_core, self.load_core = cores[:2]
        self.manager = ProcessManager(place)
        self.upstream = ""

    def start_upstream(self) -> Target:
        """The instant upstream, on the core of the load."""
        port = free_port()
        command = [sys.executable, "-m", "evaluation.benches.gatewaying.upstream", "--port", str(port)]
        self._start("upstream", command, port, "/v1/models", core=self.load_core)
        self.upstream = f"http://127.0.0.1:{port}"
        return Target("direct", self.upstream, MODEL)

    def start_ours(self, name: str = "ours", upstream: str = "", model: str = MODEL, *, pinned: bool = True) -> Target:
        """Our gateway before an engine; the instant one if none is named."""
        port, home = free_port(), self.place / name
        home.mkdir()
        command = [sys.executable, "-m", "evaluation.benches.gatewaying.ours", "--port", str(port)]
        command += ["--upstream", upstream or self.upstream, "--model", model, "--home", str(home)]
        self._start(name, command, port, "/ready", core=self.gateway_core if pinned else None)
        return Target("ours", f"http://127.0.0.1:{port}", "sluice-chat", ours.KEY)

    def start_litellm(self) -> Target:
        """LiteLLM's proxy with a master key and traces to the upstream's OTLP sink."""
        commands, port = installed("litellm", self.settings), free_port()
        model = {"model": f"openai/{MODEL}", "api_base": f"{self.upstream}/v1", "api_key": PEER_KEY}
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": model}],
            "general_settings": {"master_key": PEER_KEY},
            "litellm_settings": {"callbacks": ["otel"], "telemetry": False},
        }
        file = self.place / "litellm.yaml"
        write_atomic(file, yaml.safe_dump(config))
        env = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "OTEL_EXPORTER": "otlp_http",
            "OTEL_ENDPOINT": f"{self.upstream}/v1/traces",
        }
        command = [str(commands / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        self._start("litellm", command, port, "/health/liveliness", env=env, core=self.gateway_core)
        return Target("LiteLLM proxy", f"http://127.0.0.1:{port}", MODEL, PEER_KEY)

    def start_mlflow(self) -> Target:
        """MLflow's gateway on SQLite, with the usage tracking that it has by default."""
        commands, port, home = installed("mlflow", self.settings), free_port(), self.place / "mlflow"
        home.mkdir()
        env = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http,https",
            "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
        }
        command = [str(commands / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(home / "artifacts")]
        self._start("mlflow", command, port, "/health", env=env, core=self.gateway_core)
        address = f"http://127.0.0.1:{port}"
        _make_endpoint(f"{address}/api/3.0/mlflow/gateway", f"{self.upstream}/v1")
        return Target("MLflow gateway", f"{address}/gateway/mlflow", MODEL, needs_done=False)

    def pid(self, name: str) -> int:
        """Of a started process."""
        running = self.manager.alive(name)
        if running is None:
            raise SetupError(f"bench gateway: {name} has ended; see {self.manager.logs / name}.log")
        return running.pid

    def stop(self) -> None:
        """Stop every process."""
        self.manager.stop_all()

    def _start(
        self,
        name: str,
        command: list[str],
        port: int,
        ready: str,
        *,
        core: int | None,
        env: dict[str, str] | None = None,
    ) -> None:
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        self.manager.start(
            ProcessSpec(
                name=name,
                argv=(*pinned, *command),
                env=self.settings.quiet_environment() | {"PYTHONUNBUFFERED": "1"} | (env or {}),
                port=port,
                ready_url=f"http://127.0.0.1:{port}{ready}",
                ready_timeout_s=START_TIMEOUT_S,
            )
        )


def _make_endpoint(api: str, upstream: str) -> None:
    """A secret, a model and an endpoint of MLflow's gateway, usage tracking on."""
    secret = {"secret_name": "bench", "provider": "openai", "secret_value": {"api_key": PEER_KEY}}
    made = _create(api, "secrets", secret | {"auth_config": {"api_base": upstream}})["secret"]["secret_id"]
    model = {"name": MODEL, "secret_id": made, "provider": "openai", "model_name": MODEL}
    defined = _create(api, "model-definitions", model)["model_definition"]["model_definition_id"]
    linked = {"model_definition_id": defined, "linkage_type": "PRIMARY"}
    _create(api, "endpoints", {"name": MODEL, "model_configs": [linked], "usage_tracking": True})


def _create(api: str, what: str, body: Mapping[str, object]) -> dict[str, dict[str, str]]:
    reply = httpx.post(f"{api}/{what}/create", json=body, timeout=60, trust_env=False)
    if reply.is_error:
        raise SetupError(f"bench gateway: MLflow does not make its {what}: {reply.text[:300]}")
    made: dict[str, dict[str, str]] = reply.json()
    return made
