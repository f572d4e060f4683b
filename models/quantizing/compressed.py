"""Quantization by llmcompressor into compressed-tensors, as engines load it: fp8, W8A8, W4A16 by GPTQ and AWQ."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.errors import InputError
from models.quantizing.methods import METHODS, Quantized
from models.quantizing.spec import MakeSpec
from models.training.rows import TrainingRow

RECIPE = "recipe.yaml"
"""A file of llmcompressor that no engine needs; it holds Python object tags, so it is not kept."""


def compress(
    model: Any, tokenizer: Any, precision: Quantized, rows: Sequence[TrainingRow], spec: MakeSpec, folder: Path
) -> None:
    """Quantize the model in place and save it. Raises InputError without a chat template where rows are needed."""
    from llmcompressor.entrypoints.oneshot import oneshot
    from loguru import logger

    for name in ("llmcompressor", "compressed_tensors"):
        logger.disable(name)  # after the import, which enables them; its own switch leaves a level undefined
    given = _calibration(tokenizer, rows, spec) if METHODS[precision].needs_rows else {}
    with _without_pinning():
        oneshot(model=model, recipe=_recipe(precision, spec), **given)
    model.save_pretrained(folder, save_compressed=True)
    (folder / RECIPE).unlink(missing_ok=True)


def _calibration(tokenizer: Any, rows: Sequence[TrainingRow], spec: MakeSpec) -> dict[str, Any]:
    """Evenly spread rows as arguments of `oneshot`."""
    from datasets import Dataset

    if not tokenizer.chat_template:
        raise InputError("quantization: the model's tokenizer has no chat template to write calibration rows with")
    step = max(len(rows) // spec.calibration_rows, 1)
    chats = [[message.model_dump() for message in row.messages] for row in rows[::step][: spec.calibration_rows]]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    encoded = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=spec.max_length)
    return {
        "dataset": Dataset.from_dict({name: encoded[name] for name in ("input_ids", "attention_mask")}),
        "max_seq_length": spec.max_length,
        "num_calibration_samples": len(texts),
        "shuffle_calibration_samples": False,
    }


def _recipe(precision: Quantized, spec: MakeSpec) -> list[Any]:
    """What is done to every linear layer but the head.

    W4A16 is symmetric by AWQ as by GPTQ: the same grid and the same bytes, so that the two differ in method alone.
    """
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    method = METHODS[precision]
    kind = "float" if precision == "fp8" else "int"
    weights = QuantizationArgs(
        num_bits=method.bits,
        type=kind,
        symmetric=True,
        strategy="group" if method.group else "channel",
        group_size=spec.group_size if method.group else None,
    )
    activations = QuantizationArgs(num_bits=8, type=kind, symmetric=True, strategy="token", dynamic=True)
    scheme = QuantizationScheme(
        targets=["Linear"], weights=weights, input_activations=activations if method.rounds_activations else None
    )
    modifier = GPTQModifier if method.maker == "gptq" else QuantizationModifier
    recipe: list[Any] = [modifier(config_groups={"group_0": scheme}, ignore=["lm_head"])]
    if method.maker == "awq":
        recipe.insert(0, AWQModifier())
    if precision == "w8a8" and spec.smoothing:
        recipe.insert(0, SmoothQuantModifier(smoothing_strength=spec.smoothing))
    return recipe


@contextmanager
def _without_pinning() -> Iterator[None]:
    """On a machine without an accelerator llmcompressor's AWQ pins memory for one and fails: there it pins nothing."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    cache: Any = IntermediatesCache
    pin = cache.pin_memory
    if not torch.accelerator.is_available():
        cache.pin_memory = lambda *_, **__: None
    try:
        yield
    finally:
        cache.pin_memory = pin
