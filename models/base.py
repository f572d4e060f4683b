"""The base model of a project: a local folder or a Hugging Face id, brought in as safetensors only."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from infra.errors import InputError, SetupError
from infra.settings import ROOT, Policy

STARTER_FOLDER = ROOT / "models" / "starter" / "weights"
SHIPPED = {"starter": STARTER_FOLDER, "student": ROOT / "models" / "starter" / "student"}
"""Models that come with the project, by name: the starter, and one of a quarter of its size to distil into."""
NEEDED = ("config.json", "tokenizer.json")
TAKEN = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.md")
"""Files of a model folder that are taken; weights in pickled formats never are."""


HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""The form of a Hugging Face id: an organisation and a name."""


def is_hub_id(model: str) -> bool:
    """Whether `model` has the form of a Hugging Face id (a relative folder may have it, too: look for that first)."""
    return HUB_ID.fullmatch(model) is not None


def local_folder(model: str, root: Path) -> Path:
    """Where a model lies that is no Hugging Face id: one that is shipped, or a folder relative to `root`."""
    return SHIPPED.get(model) or (root / model).resolve()


def policy_model(policy: Policy) -> Path:
    """Where the local model of a policy's section `model` lies."""
    return local_folder(str(policy.sections["model"]["base"]), policy.path.parent)


def resolve_model(model: str, target: Path) -> None:
    """Copy the model `model` (a folder, else a Hugging Face id) into the empty folder `target`.

    Raises: InputError for a folder that is no model; SetupError when a hub id cannot be fetched.
    """
    folder = Path(model)
    if folder.is_dir():
        _copy(folder, target)
    elif not is_hub_id(model):
        raise InputError(f"model: {model} is no folder; name a model folder or a Hugging Face id such as org/name")
    else:
        _copy(_fetched(model), target)


def read_config(model: str, root: Path) -> tuple[dict[str, Any], str]:
    """(config.json, where it lies) of `starter`, of a folder relative to `root`, or of a hub id: no weight is touched.

    Raises: InputError for what is no model and a file that is no JSON object; SetupError for one out of reach.
    """
    folder = local_folder(model, root)
    if not folder.is_dir() and is_hub_id(model):
        path = _fetched_config(model)
    else:
        path = folder if folder.name == "config.json" else folder / "config.json"
    if not path.is_file():
        raise InputError(f"model: {path} is not there; name a model folder or a Hugging Face id such as org/name")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: must be a JSON object")
    return config, str(path)


def _fetched_config(model: str) -> Path:
    """Local copy of a hub id's config.json."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells every retry
    try:
        return Path(hf_hub_download(model, "config.json"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SetupError(
            f"model {model}: its config.json cannot be fetched ({type(error).__name__}); name a local folder instead"
        ) from error


def _fetched(model: str) -> Path:
    """Local snapshot of a hub id, safetensors only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=list(TAKEN)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SetupError(
            f"model {model}: cannot be fetched ({type(error).__name__}); name a local folder instead"
        ) from error


def _copy(folder: Path, target: Path) -> None:
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing or not any(folder.glob("*.safetensors")):
        lacks = missing[0] if missing else "*.safetensors"
        raise InputError(f"{folder}: not a model folder that can be used, it lacks {lacks}")
    for pattern in TAKEN:
        for file in sorted(folder.glob(pattern)):
            shutil.copyfile(file, target / file.name)
