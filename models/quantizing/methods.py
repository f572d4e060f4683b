"""The precisions of a model's weights: their names, and of each its bits, its groups and how it is made."""

from dataclasses import dataclass
from typing import Literal

Served = Literal["fp8", "w8a8", "w4a16", "w4a16-awq"]
"""Smaller precisions that the engine has a kernel for."""
WeightsOnly = Literal["nf4", "hqq4", "hqq3", "hqq2", "hqq1"]
"""Precisions that are measured for their quality: packed, unpacked again, and served as bf16."""
Quantized = Literal[Served, WeightsOnly]
Precision = Literal["bf16", Quantized]
"""What a release may be made of."""
WeightType = Literal["fp32", "fp16", Precision]
"""What the memory planner counts."""

Maker = Literal["rounding", "gptq", "awq", "bitsandbytes", "hqq"]


@dataclass(frozen=True)
class Method:
    """How one precision is made. Head, embeddings and norms stay in bf16 in all of them."""

    bits: int
    """Of a weight."""
    maker: Maker
    """rounding: to the nearest number; gptq: Frantar et al. 2022; awq: Lin et al. 2023; bitsandbytes: NF4 with double
    quantization, Dettmers et al. 2023; hqq: half-quadratic quantization, Badri and Shaji 2023."""
    group: int | None = None
    """Weights that share one scale: this many of a row, None for a whole row."""
    is_group_set: bool = False
    """Whether `quantization.group_size` takes the place of `group`."""
    rounds_activations: bool = False
    """Whether activations are in 8 bits as well."""
    needs_rows: bool = False
    """Whether calibration rows guide the rounding."""
    is_served: bool = True
    """Whether the engine has a kernel; otherwise only the quality is measured."""


METHODS: dict[Quantized, Method] = {
    "fp8": Method(8, "rounding", rounds_activations=True),
    "w8a8": Method(8, "gptq", rounds_activations=True, needs_rows=True),
    "w4a16": Method(4, "gptq", group=128, is_group_set=True, needs_rows=True),
    "w4a16-awq": Method(4, "awq", group=128, is_group_set=True, needs_rows=True),
    "nf4": Method(4, "bitsandbytes", is_served=False),
    "hqq4": Method(4, "hqq", group=64, is_served=False),
    "hqq3": Method(3, "hqq", group=64, is_served=False),
    "hqq2": Method(2, "hqq", group=64, is_served=False),
    "hqq1": Method(1, "hqq", group=64, is_served=False),
}
"""Every smaller precision, from the most bits to the fewest."""

BLOCK = 64
"""NF4: weights of one block, counted through the whole matrix, so that every width will do."""


def is_served(precision: Precision) -> bool:
    """Whether the engine computes with the weights as they are packed."""
    return precision == "bf16" or METHODS[precision].is_served


def bits(precision: Precision) -> int:
    """Bits of a weight."""
    return 16 if precision == "bf16" else METHODS[precision].bits
