"""Quantization: the merged model at 8 or 4 bits as an engine loads it, and the rule that chooses among the measured."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.errors import InputError
from infra.settings import Spec
from infra.store import write_atomic
from models.release import Precision
from models.training.adapters import check_model_folder, copy_tokenizer, make_readable
from models.training.quiet import one_thread, quiet_libraries
from models.training.rows import TrainingRow

RECIPE = "recipe.yaml"
"""A file of llmcompressor that no engine needs; it holds Python object tags, so it is not kept."""

Quantized = Literal["w8a8", "w4a16"]

SCHEMES: dict[Quantized, tuple[int, int | None]] = {"w8a8": (8, 8), "w4a16": (4, None)}
"""Bits of weights and of activations (None: left in bf16)."""


class QuantSpec(Spec):
    """What is tried beside bf16, and how much quality may be paid for fewer bytes."""

    precisions: tuple[Quantized, ...] = ("w8a8", "w4a16")
    """w8a8: 8-bit weights and activations; w4a16: 4-bit weights."""
    group_size: int = Field(128, ge=16, le=1024)
    """w4a16: weights that share one scale; must divide the width of every layer."""
    calibration_rows: int = Field(64, ge=1)
    """Training rows whose activations guide the rounding (GPTQ, Frantar et al. 2022)."""
    max_length: int = Field(1024, ge=64)
    """Longest calibration row in tokens; longer ones are cut."""
    smoothing: float = Field(0.0, ge=0, le=1)
    """w8a8: share of the activations' outliers moved into the weights (SmoothQuant, Xiao et al. 2022); 0 = off."""
    margin: float = Field(ge=0, lt=1)
    """Largest loss of quality against bf16 that counts as none: the bound of the difference must lie above −margin."""
    alpha: float = Field(gt=0, lt=0.5)
    """One-sided error rate of that bound."""

    @model_validator(mode="after")
    def _each_once(self) -> "QuantSpec":
        if len(set(self.precisions)) < len(self.precisions):
            raise ValueError("precisions: each may be named once")
        return self


class QuantReport(BaseModel):
    """What one quantization made. `bytes_on_disk` counts the weights; seconds are wall time."""

    model_config = ConfigDict(frozen=True)

    bytes_on_disk: int
    seconds: float


class Measured(BaseModel):
    """One precision as it was measured on the engine."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    bytes_on_disk: int
    """Bytes of the weights."""
    quality: float
    """Mean quality over the cases, in [0, 1]."""
    lower_bound: float | None = None
    """Lower one-sided bound of the paired difference in quality to bf16; None for bf16 itself."""
    served: bool = True
    """Whether the engine loaded it and answered."""
    tokens_per_second: float | None = None


class Choice(BaseModel):
    """The precision of the candidate, and one reason for each precision that was looked at."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    reasons: tuple[str, ...]


def choose_precision(measured: Sequence[Measured], policy: QuantSpec) -> Choice:
    """The fewest bytes that are served and no worse than bf16 by more than the margin; else bf16.

    Raises: InputError when bf16 was not measured or a precision appears twice.
    """
    by_name = {item.precision: item for item in measured}
    if "bf16" not in by_name or len(by_name) < len(measured):
        raise InputError("quantization: every precision must be measured once, and bf16 among them")
    base = by_name["bf16"]
    chosen, reasons = base, []
    for item in sorted(measured, key=lambda item: (item.bytes_on_disk, item.precision)):
        if item is base:
            continue
        objection = _objection(item, base, policy)
        if objection:
            reasons.append(f"{item.precision}: {objection}")
        elif chosen is base:
            chosen = item
            reasons.append(f"{item.precision}: chosen, {_figures(item, policy)}, {_saved(item, base)}")
        else:
            reasons.append(f"{item.precision}: good enough, but {chosen.precision} is smaller")
    if chosen is base:
        reasons.append("bf16: kept, no smaller precision may replace it")
    return Choice(precision=chosen.precision, reasons=tuple(reasons))


def _objection(item: Measured, base: Measured, policy: QuantSpec) -> str | None:
    """Why a precision may not replace bf16, or None."""
    if not item.served:
        return "the engine does not serve it"
    if item.bytes_on_disk >= base.bytes_on_disk:
        return f"not smaller than bf16 ({item.bytes_on_disk:,} bytes)"
    if item.lower_bound is None:
        return "its quality was not compared with bf16"
    if not item.lower_bound > -policy.margin:
        return f"worse than bf16 or not shown otherwise, {_figures(item, policy)}"
    return None


def _figures(item: Measured, policy: QuantSpec) -> str:
    return f"lower bound of the difference {item.lower_bound:+.3f} against −{policy.margin:.3f}"


def _saved(item: Measured, base: Measured) -> str:
    return f"{1 - item.bytes_on_disk / base.bytes_on_disk:.0%} fewer bytes"


def quantize(
    merged_folder: Path, precision: Quantized, calibration: Sequence[TrainingRow], spec: QuantSpec, out_folder: Path
) -> QuantReport:
    """Write `merged_folder` at `precision` into `out_folder` as compressed-tensors; head and embeddings stay bf16.

    The same inputs give the same bytes on a CPU. Raises: SetupError when the folder holds no model; InputError when
    there is nothing to calibrate on or the group size does not divide the layers.
    """
    check_model_folder(merged_folder)
    if not calibration:
        raise InputError("quantization: no training rows to calibrate on")
    started = time.monotonic()
    with quiet_libraries(), one_thread():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(merged_folder, dtype=torch.bfloat16, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(merged_folder, local_files_only=True)
        _check_groups(model, precision, spec)
        _compress(model, tokenizer, precision, calibration, spec)
        out_folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out_folder, save_compressed=True)
        copy_tokenizer(merged_folder, out_folder)
    (out_folder / RECIPE).unlink(missing_ok=True)
    _without_paths(out_folder / "config.json")
    make_readable(out_folder)
    size = sum(path.stat().st_size for path in out_folder.glob("*.safetensors"))
    return QuantReport(bytes_on_disk=size, seconds=time.monotonic() - started)


def _check_groups(model: Any, precision: Quantized, spec: QuantSpec) -> None:
    """Raise InputError when a layer's width is no multiple of the group size."""
    import torch

    if precision != "w4a16":
        return
    for name, module in model.named_modules():
        is_layer = isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
        if is_layer and module.in_features % spec.group_size:
            raise InputError(
                f"quantization.group_size: {spec.group_size} does not divide the {module.in_features} inputs of {name}"
            )


def _compress(
    model: Any, tokenizer: Any, precision: Quantized, calibration: Sequence[TrainingRow], spec: QuantSpec
) -> None:
    """Quantize the model in place."""
    from loguru import logger

    logger.disable("llmcompressor")
    logger.disable("compressed_tensors")
    from datasets import Dataset
    from llmcompressor.entrypoints.oneshot import oneshot

    rows = list(calibration)
    step = max(len(rows) // spec.calibration_rows, 1)
    chats = [[message.model_dump() for message in row.messages] for row in rows[::step][: spec.calibration_rows]]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    encoded = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=spec.max_length)
    oneshot(
        model=model,
        dataset=Dataset.from_dict({"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}),
        recipe=_recipe(precision, spec),
        max_seq_length=spec.max_length,
        num_calibration_samples=len(texts),
        shuffle_calibration_samples=False,
    )


def _recipe(precision: Quantized, spec: QuantSpec) -> list[Any]:
    """GPTQ on every linear layer but the head; before it, if asked for, SmoothQuant."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    weight_bits, activation_bits = SCHEMES[precision]
    weights = QuantizationArgs(
        num_bits=weight_bits,
        type="int",
        symmetric=True,
        strategy="channel" if activation_bits else "group",
        group_size=None if activation_bits else spec.group_size,
    )
    activations = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    scheme = QuantizationScheme(
        targets=["Linear"], weights=weights, input_activations=activations if activation_bits else None
    )
    recipe: list[Any] = [GPTQModifier(config_groups={"group_0": scheme}, ignore=["lm_head"])]
    if activation_bits and spec.smoothing:
        recipe.insert(0, SmoothQuantModifier(smoothing_strength=spec.smoothing))
    return recipe


def _without_paths(config_file: Path) -> None:
    """Write config.json with sorted keys and without the path that it was loaded from."""
    config = json.loads(config_file.read_text("utf-8"))
    config.pop("_name_or_path", None)
    write_atomic(config_file, json.dumps(config, indent=2, sort_keys=True) + "\n")
