"""What is done to a running engine besides asking it: its models, adapters loaded while it serves, draining."""

import json
import time
from pathlib import Path
from typing import Any

import httpx

from infra.errors import InputError, SetupError, TryAgainError
from infra.replies import raise_for_status

TIMEOUT_S = 60.0
POLL_S = 0.05
BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")
"""Gauges of `/metrics` that count requests in the engine."""
UNSAFE = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def check_weights(folder: Path, weights: str) -> None:
    """Refuse a folder without safetensors weights or with pickled ones.

    Raises: SetupError when folder or weights (a glob) are missing; InputError naming a file that could run code.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder}: no such model folder; check the path, or run the stage that makes it")
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in UNSAFE)
    if pickled:
        raise InputError(f"{folder / pickled[0]}: only safetensors are loaded; convert the weights and remove the file")
    if not any(folder.glob(weights)):
        raise SetupError(f"{folder}: no {weights}; this is not a model folder")


def adapter_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json of an adapter folder. Raises SetupError when it is missing."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise SetupError(f"{folder}: no adapter_config.json; this is not an adapter folder")
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return config


def adapter_kind(folder: Path) -> str:
    """LORA, PREFIX_TUNING, … as peft names them."""
    return str(adapter_config(folder).get("peft_type", ""))


def _call(method: str, url: str, body: dict[str, str] | None = None) -> httpx.Response:
    try:
        response = httpx.request(method, url, json=body, timeout=TIMEOUT_S, trust_env=False)
    except httpx.TransportError as error:
        raise TryAgainError(f"{url}: {type(error).__name__} {error}".rstrip()) from error
    raise_for_status(response.status_code, response.content, url)
    return response


def served_models(base_url: str) -> list[str]:
    """Names the engine answers to, its base first. Raises TryAgainError when it does not answer."""
    return [str(entry["id"]) for entry in _call("GET", f"{base_url}/v1/models").json()["data"]]


def load_adapter(base_url: str, name: str, folder: Path) -> None:
    """Load the LoRA adapter in `folder` as model `name` while the engine serves; nothing if it is there already.

    Raises: InputError when the engine refuses it (rank too high, another base), TryAgainError when it is unreachable.
    """
    if name in served_models(base_url):
        return
    check_weights(folder, "adapter_model.safetensors")
    body = {"lora_name": name, "lora_path": str(folder.resolve())}
    _call("POST", f"{base_url}/v1/load_lora_adapter", body)


def unload_adapter(base_url: str, name: str) -> None:
    """Stop serving adapter `name`; nothing if it is not there. New requests for it get 404: reroute them first."""
    if name in served_models(base_url):
        _call("POST", f"{base_url}/v1/unload_lora_adapter", {"lora_name": name})


def requests_in_engine(base_url: str) -> int:
    """Requests that run or wait in the engine now."""
    lines = _call("GET", f"{base_url}/metrics").text.splitlines()
    values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] in BUSY]
    return int(sum(values))


def drain(base_url: str, timeout_s: float) -> bool:
    """Wait until the engine has no request left; whether that happened in time.

    Take it out of the pool first: an engine accepts requests while it drains.
    """
    deadline = time.monotonic() + timeout_s
    while requests_in_engine(base_url):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
