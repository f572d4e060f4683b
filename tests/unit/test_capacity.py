"""What smaller weights are worth to an engine: bytes, and requests at once."""

import json

from models.base import STARTER_FOLDER
from models.quantizing.methods import METHODS
from models.serving.architectures import read_shape
from models.serving.capacity import logged_weights, planned_weights, safe_concurrency
from models.serving.vllm import EngineSpec

SHAPE = read_shape(json.loads((STARTER_FOLDER / "config.json").read_text()), "starter")
ENGINE = EngineSpec(max_model_len=2048, kv_cache_gib=0.25)


def test_bf16_leaves_the_cache_that_the_engine_was_given() -> None:
    """2,048 tokens × 4 layers × 2 × 256 × 2 bytes = 8 MiB a request: 32 in 256 MiB, one less for the block kept."""
    weights = planned_weights(SHAPE, "bf16", ENGINE, 128)
    assert weights == 2 * SHAPE.parameters
    assert safe_concurrency(SHAPE, weights, ENGINE, "cpu", 128) == 31


def test_fewer_bytes_of_weights_hold_more_requests() -> None:
    sizes = {name: planned_weights(SHAPE, name, ENGINE, 128) for name in METHODS}
    assert sizes["w8a8"] == sizes["fp8"] > sizes["w4a16"] == sizes["w4a16-awq"] > sizes["hqq3"] > sizes["hqq1"]
    tight = ENGINE.model_copy(update={"kv_cache_gib": 0.017, "max_model_len": 256})
    room = {name: safe_concurrency(SHAPE, size, tight, "cpu", 128) for name, size in sizes.items()}
    assert room["hqq1"] > room["w8a8"] > safe_concurrency(SHAPE, 2 * SHAPE.parameters, tight, "cpu", 128)
    assert safe_concurrency(SHAPE, 2**40, ENGINE, "gpu", 128) == 0


def test_only_a_figure_that_is_fine_enough_is_taken_from_the_log() -> None:
    line = "INFO 11-29 [gpu_model_runner.py:5150] Model loading took {} GiB memory and 2.345678 seconds\n"
    assert logged_weights(line.format("14.99")) == int(14.99 * 2**30)
    assert logged_weights(line.format("0.01")) is None
    assert logged_weights("Loading weights took 0.05 seconds") is None
