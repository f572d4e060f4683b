"""`sluice plan-memory`: a model's config.json and a card → the plan, as plain values."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.errors import InputError
from models.base import read_config
from models.serving.architectures import read_shape
from models.serving.footprint import MemorySpec
from models.serving.gpus import gpu_bytes
from models.serving.memory import plan_memory
from models.serving.rules_of_thumb import weight_table, worked_example

CONTEXT = 4096
"""Tokens of a request where none are named."""


def reference() -> dict[str, Any]:
    """What a planner is checked by: the cache worked out by hand, and weights from 7B to 405B."""
    return {"example": worked_example(), "table": weight_table()}


def plan(model: str, gpu: str, context: int | None = None, **asked: Any) -> dict[str, Any]:
    """The plan of a model (folder, config.json, hub id or `starter`) on a card (name or size), with what was asked.

    `asked` are fields of `MemorySpec`; without a context it is `CONTEXT` tokens, or what the model's positions reach.
    Raises: InputError for a wrong option, an unknown card or architecture; SetupError for a hub id out of reach.
    """
    try:
        spec = MemorySpec(gpu_bytes=gpu_bytes(gpu), context=CONTEXT if context is None else context, **asked)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise InputError(f"{option}: {first['msg']} (got {first.get('input')!r})") from error
    config, where = read_config(model, Path.cwd())
    shape = read_shape(config, where)
    if context is None and shape.longest is not None:
        spec = spec.model_copy(update={"context": min(CONTEXT, shape.longest)})
    told = plan_memory(shape, spec).model_dump(mode="json")
    quantized = config.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method", "some method") if isinstance(quantized, dict) else "some method"
        told["notes"].append(
            f"config.json says that the weights are quantized by {method}: planned is {spec.precision}"
        )
    return {"model": model, "architecture": shape.architecture, "gpu": gpu, "asked": spec.model_dump(), **told}
