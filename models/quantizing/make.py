"""Quantization: a merged bf16 model folder → a folder at one precision that an engine serves."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from infra.store import write_atomic
from models.quantizing.compressed import compress
from models.quantizing.methods import METHODS, Quantized
from models.quantizing.packed import PACKED, linear_weights, pack
from models.quantizing.spec import MakeSpec
from models.training.adapters import check_model_folder, copy_tokenizer, make_readable
from models.training.quiet import one_thread, quiet_libraries
from models.training.rows import TrainingRow


class QuantReport(BaseModel):
    """What one quantization made. `bytes_on_disk` counts the packed weights; seconds are wall time."""

    model_config = ConfigDict(frozen=True)

    bytes_on_disk: int
    seconds: float


def quantize(
    merged_folder: Path, precision: Quantized, calibration: Sequence[TrainingRow], spec: MakeSpec, out_folder: Path
) -> QuantReport:
    """Write `merged_folder` at `precision` into `out_folder`; head, embeddings and norms stay bf16.

    What the engine has a kernel for is written as compressed-tensors. Anything else is written as a bf16 model of the
    rounded weights, with the packed weights in a folder beside it. The same inputs give the same bytes on a CPU.
    Raises: SetupError when the folder holds no model with a tokenizer; InputError for damaged weights, for no rows
    where some are needed, and for a group that does not divide the layers.
    """
    check_model_folder(merged_folder)
    method = METHODS[precision]
    if method.needs_rows and not calibration:
        raise InputError(f"quantization: no training rows to calibrate {precision} on")
    started = time.monotonic()
    with quiet_libraries(), one_thread():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_pretrained(merged_folder, dtype=torch.bfloat16, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(merged_folder, local_files_only=True)
        _check_groups(model, precision, spec)
        out_folder.mkdir(parents=True, exist_ok=True)
        if method.is_served:
            compress(model, tokenizer, precision, calibration, spec, out_folder)
        else:
            pack(model, precision, out_folder)
        copy_tokenizer(merged_folder, out_folder)
    _without_paths(out_folder / "config.json")
    make_readable(out_folder)
    return QuantReport(bytes_on_disk=weights_bytes(out_folder), seconds=time.monotonic() - started)


def weights_bytes(folder: Path) -> int:
    """Bytes of a model's or an adapter's weights as they are packed."""
    packed = folder / PACKED
    return sum(path.stat().st_size for path in (packed if packed.is_dir() else folder).rglob("*.safetensors"))


def _check_groups(model: Any, precision: Quantized, spec: MakeSpec) -> None:
    """Raise InputError when a layer's width is no multiple of the group."""
    method = METHODS[precision]
    group = spec.group_size if method.is_group_set else method.group
    if group is None:
        return
    for name, weight in linear_weights(model):
        width = weight.shape[1]
        if width % group:
            layer = name.removesuffix(".weight")
            told = "quantization.group_size" if method.is_group_set else f"{precision}: groups of"
            raise InputError(f"{told}: {group} does not divide the {width} inputs of {layer}")


def _without_paths(config_file: Path) -> None:
    """Write config.json with sorted keys and without the path that it was loaded from."""
    config = json.loads(config_file.read_text("utf-8"))
    config.pop("_name_or_path", None)
    write_atomic(config_file, json.dumps(config, indent=2, sort_keys=True) + "\n")
