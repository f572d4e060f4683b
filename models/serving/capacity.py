"""What smaller weights are worth to an engine: bytes in memory, and requests that fit at once."""

import re

from models.quantizing.methods import Precision
from models.serving.footprint import MemorySpec, block_bytes, blocks_per_request, weight_bytes
from models.serving.shapes import ModelShape
from models.serving.vllm import Build, EngineSpec

BLOCK_TOKENS: dict[Build, int] = {"cpu": 128, "gpu": 16, "": 16}
"""Tokens of a cache block of each build of vLLM."""
STEPS_IN_FLIGHT: dict[Build, int] = {"cpu": 1, "gpu": 2, "": 2}
"""Steps that each build schedules ahead, see `MemorySpec.steps_in_flight`."""
LOGGED = re.compile(r"Model loading took ([\d.]+) GiB memory")
"""What vLLM says on a GPU; on the CPU it says nothing."""
LEAST_GIB = 1.0
"""The log rounds to 0.01 GiB: below this the planner knows better."""


def planned_weights(shape: ModelShape, precision: Precision, engine: EngineSpec, group_size: int) -> int:
    """Bytes of the weights at a precision, as the memory planner counts them."""
    return weight_bytes(shape, _spec(engine, precision, "", group_size))


def logged_weights(log: str) -> int | None:
    """Bytes of the weights as the engine's own log says them; None where it does not, or too roughly."""
    found = [float(text) for text in LOGGED.findall(log)]
    return int(found[-1] * 2**30) if found and found[-1] >= LEAST_GIB else None


def safe_concurrency(shape: ModelShape, weights: int, engine: EngineSpec, build: Build, group_size: int) -> int:
    """Requests of `max_model_len` tokens that never preempt each other, in the memory that bf16 weights and the
    engine's cache take together: what weights of fewer bytes leave free holds more of the cache."""
    spec = _spec(engine, "bf16", build, group_size)
    room = int(engine.kv_cache_gib * 2**30) + weight_bytes(shape, spec) - weights
    blocks = room // block_bytes(shape.cache, spec) - 1  # vLLM keeps one back
    return max(blocks // blocks_per_request(shape.cache, spec), 0)


def _spec(engine: EngineSpec, precision: Precision, build: Build, group_size: int) -> MemorySpec:
    return MemorySpec(
        gpu_bytes=2**60,
        context=engine.max_model_len,
        precision=precision,
        block_size=BLOCK_TOKENS[build],
        steps_in_flight=STEPS_IN_FLIGHT[build],
        group_size=group_size,
    )
