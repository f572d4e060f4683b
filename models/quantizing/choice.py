"""The night's rule that chooses a precision among those that the engine serves."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from models.quantizing.methods import Precision, is_served
from models.quantizing.spec import QuantSpec


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
    if not is_served(item.precision):
        return "quality only: the engine has no kernel for it"
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
