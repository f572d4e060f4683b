"""Two things to check a planner by: the cache worked out by hand, and weights by model size."""

from typing import Any

from models.serving.footprint import MemorySpec, cache_formula
from models.serving.gpus import GPUS
from models.serving.shapes import CacheShape

SIZES = (7, 13, 34, 70, 405)
"""Billions of parameters."""
CARDS = ("A10G", "A100-40", "A100-80")
"""Cards from small to large; of the last one, several."""
SHARE = 0.92
"""Share of a card for the weights of this table (vLLM's default limit)."""


def worked_example() -> str:
    """Cache of 16 requests of 8,192 tokens: 32 layers, 4,096 wide, every head with its own keys, 16 bits."""
    cache = CacheShape(full_layers=32, heads=32, head_elements=2 * 128)
    return cache_formula(cache, MemorySpec(gpu_bytes=GPUS["A100-80"], context=8192, concurrency=16))


def weight_table() -> list[dict[str, Any]]:
    """Gigabytes of the weights at 16, 8 and 4 bits, and the fewest cards that hold them, from 7B to 405B."""
    rows = []
    for billions in SIZES:
        sizes = {"fp16": 2.0 * billions, "int8": 1.0 * billions, "int4": 0.5 * billions}
        row: dict[str, Any] = {"model": f"{billions}B"}
        row |= {f"{name}_gb": size for name, size in sizes.items()}
        row |= {f"{name}_cards": _cards(size * 1e9) for name, size in sizes.items()}
        rows.append(row)
    return rows


def _cards(weights: float) -> str:
    """The fewest and smallest cards that hold so many bytes of weights; there must be cache beside them."""
    for name in CARDS:
        if weights <= SHARE * GPUS[name]:
            return f"1 × {name}"
    count = 2
    while weights > count * SHARE * GPUS[CARDS[-1]]:
        count *= 2
    return f"{count} × {CARDS[-1]}"
