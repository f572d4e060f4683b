"""Adapters on disk: the same bytes for the same weights, and merged into the base they were trained on, no other."""

import json
import shutil
from pathlib import Path
from typing import Any

from infra.errors import InputError, SetupError
from infra.store import folder_manifest, value_digest, write_atomic
from models.weights import check_whole

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def base_name(base_folder: Path) -> str:
    """A name of the base that is the same on every machine: `model-` and its content digest."""
    return f"model-{value_digest(folder_manifest('model', base_folder))[:16]}"


def check_model_folder(folder: Path) -> None:
    """Check that `folder` holds a model: safetensors weights and a tokenizer.

    Raises: SetupError where something is missing; InputError naming a weights file that is cut off or damaged.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder}: no model folder; download the model there or correct the path")
    missing = [name for name in ("config.json", "tokenizer_config.json") if not (folder / name).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        raise SetupError(f"{folder}: not a model folder, {missing[0] if missing else '*.safetensors'} is missing")
    for path in sorted(folder.glob("*.safetensors")):
        check_whole(path)


def check_adapter(adapter_folder: Path, base_folder: Path) -> None:
    """Check that an adapter is whole and was trained on this very base. Raises: InputError naming file or bases."""
    if not (adapter_folder / CONFIG).is_file():
        raise InputError(f"{adapter_folder}: no adapter, {CONFIG} is missing")
    check_whole(adapter_folder / WEIGHTS)
    made_for = json.loads((adapter_folder / CONFIG).read_text("utf-8")).get("base_model_name_or_path")
    base = base_name(base_folder)
    if made_for != base:
        raise InputError(
            f"{adapter_folder}: the adapter was made for {made_for}, not for {base} in {base_folder};"
            " take the base that it was trained on, or train it again"
        )


def _plain(value: Any) -> Any:
    """PEFT's configuration as plain JSON: enumerations by value, sets sorted."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return getattr(value, "value", value)


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """Save a peft model's adapter as bf16 safetensors. `base` stands in the place of the base's path.

    The engine computes in bf16: rounding here makes the merged weights and the served adapter the same numbers.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model).items())
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = _plain(model.peft_config["default"].to_dict())
    config |= {"base_model_name_or_path": base, "inference_mode": True}
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy what is neither weights nor their index nor config: tokenizer, chat template, generation settings."""
    for path in sorted(source.iterdir()):
        is_weights = path.suffix == ".safetensors" or path.name.endswith(".index.json")
        if path.is_file() and not is_weights and path.name != "config.json":
            shutil.copyfile(path, target / path.name)


def merge_adapter(base_folder: Path, adapter_folder: Path, out_folder: Path) -> None:
    """Add the adapter to the bf16 base and save the sum as bf16 safetensors with tokenizer and chat template.

    The sum is taken in float32 and rounded once. Never merged into a 4-bit base: the result would stay 4-bit.
    Raises: InputError for an adapter of another base, and for a weights file that is cut off.
    """
    check_adapter(adapter_folder, base_folder)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32, local_files_only=True)
    save_model(PeftModel.from_pretrained(base, adapter_folder).merge_and_unload(), base_folder, out_folder)


def save_model(model: Any, base_folder: Path, out_folder: Path) -> None:
    """Save a whole model as bf16 safetensors, with the tokenizer and chat template of its base."""
    import torch

    out_folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out_folder)
    copy_tokenizer(base_folder, out_folder)
    make_readable(out_folder)


def fresh(folder: Path) -> Path:
    """The folder, emptied of what a killed run may have left."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def make_readable(folder: Path) -> None:
    """Give new files the usual rights: safetensors creates them for the owner only."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
