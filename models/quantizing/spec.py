"""What is asked of quantization: how the weights are made, which precisions are tried, what quality may be paid."""

from typing import Literal

from pydantic import Field, model_validator

from infra.settings import Spec
from models.quantizing.methods import METHODS, Quantized, Served


class MakeSpec(Spec):
    """What decides the bytes of the quantized weights."""

    group_size: int = Field(128, ge=16, le=1024)
    """w4a16 and w4a16-awq: weights that share one scale; must divide the width of every layer."""
    calibration_rows: int = Field(64, ge=1)
    """Training rows whose activations guide the rounding (GPTQ, Frantar et al. 2022; AWQ, Lin et al. 2023)."""
    max_length: int = Field(1024, ge=64)
    """Longest calibration row in tokens; longer ones are cut."""
    smoothing: float = Field(0.0, ge=0, le=1)
    """w8a8: share of the activations' outliers moved into the weights (SmoothQuant, Xiao et al. 2022); 0 = off."""


class Demand(Spec):
    """What the cases of one tag ask of a precision."""

    bits: int = Field(1, ge=1, le=16)
    """Fewest bits of a weight."""
    margin: float | None = Field(None, ge=0, lt=1)
    """Largest loss of quality on the cases of this tag alone; None: they are not looked at apart."""


class QuantSpec(MakeSpec):
    """Section `quantization` of the policy file."""

    precisions: tuple[Served, ...] = ("w8a8", "w4a16")
    """What a night tries beside bf16. Only what the engine has a kernel for: the night's choice is served."""
    sweep: tuple[Quantized, ...] = tuple(METHODS)
    """What `sluice run quantize` tries beside bf16: fp8, w8a8, w4a16, w4a16-awq; nf4 and hqq4 to hqq1 for quality."""
    margin: float = Field(ge=0, lt=1)
    """Largest loss of quality against bf16 that counts as none: the bound of the difference must lie above −margin."""
    alpha: float = Field(gt=0, lt=0.5)
    """One-sided error rate of that bound."""
    power: float = Field(0.8, gt=0.5, lt=1)
    """Probability of seeing that a precision is no worse where it is none; decides how many more questions are asked
    for where the cases do not tell."""
    cost: Literal["bytes", "good_answer"] = "bytes"
    """What is cheapest. bytes: of the packed weights, the same on every machine. good_answer: machine time at the
    price of section `cost` by correct answer, for this engine under this load; only for what the engine serves."""
    demands: dict[str, Demand] = Field(default_factory=dict)
    """Tag of cases → what they ask more, wherever a case of the tag is among those that precisions are compared on."""

    @model_validator(mode="after")
    def _each_once(self) -> "QuantSpec":
        for name in ("precisions", "sweep"):
            named = getattr(self, name)
            if len(set(named)) < len(named):
                raise ValueError(f"{name}: each may be named once")
        return self

    def making(self) -> MakeSpec:
        """The part that decides the weights: another margin quantizes nothing anew."""
        return MakeSpec(**{name: getattr(self, name) for name in MakeSpec.model_fields})
