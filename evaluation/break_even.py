"""Build or buy: machines of one's own against an API by the token, month for month, and from which volume on."""

import math

from pydantic import BaseModel, ConfigDict, Field

from infra.cost import SECONDS_PER_HOUR
from infra.settings import Spec

HOURS_PER_MONTH = 8766 / 12
"""Hours of an average month."""
MILLION = 1_000_000


class BreakEvenSpec(Spec):
    """What both ways cost. All amounts in one currency."""

    tokens_per_month: float = Field(gt=0)
    """Tokens of prompts and answers together."""
    output_share: float = Field(0.25, gt=0, le=1)
    """Share of them that is written by the model."""
    api_price_in: float = Field(ge=0)
    """Price of the API for a million tokens of prompts."""
    api_price_out: float = Field(ge=0)
    """Price of the API for a million tokens of answers."""
    machine_price: float = Field(ge=0)
    """Price of one machine for an hour. It is paid day and night."""
    output_tokens_per_s: float = Field(gt=0)
    """Tokens of answers a second that one machine writes under full load, with prompts of the usual length: what
    `sluice run benchmark` measures."""
    utilization: float = Field(0.4, gt=0, le=1)
    """Share of that which the traffic of a whole month makes use of: nights and week-ends count."""
    fixed_per_month: float = Field(0.0, ge=0)
    """What running machines costs beside them: engineering, on-call, monitoring."""
    spare_machines: int = Field(0, ge=0)
    """Machines that stand by for one that fails."""


class BreakEven(BaseModel):
    """Both ways at the stated volume, and the volumes at which they cross."""

    model_config = ConfigDict(frozen=True)

    spec: BreakEvenSpec
    machines: int
    """Machines that the volume takes, spare ones included."""
    build_per_month: float
    buy_per_month: float
    build_per_million: float
    """Cost of a million tokens at this volume."""
    buy_per_million: float
    tokens_per_machine: float
    """Tokens a month that one machine serves at the stated utilization."""
    utilized: float
    """Share of the machines' full load that this volume makes use of (spare ones left out)."""
    break_even_tokens: float | None
    """Smallest volume a month at which building costs no more; None: at no volume, at this utilization."""
    always_from_tokens: float | None
    """Volume from which building never costs more again: behind it, a further machine is paid by what fills it."""
    bill_at_break_even: float | None
    """What the API takes for that smallest volume."""
    least_utilization: float
    """Utilization at which a machine that is used so much costs what the API does, fixed costs left out; above 1:
    the API is cheaper at any."""

    @property
    def is_build(self) -> bool:
        """Whether building is cheaper at this volume."""
        return self.build_per_month <= self.buy_per_month


def break_even(spec: BreakEvenSpec) -> BreakEven:
    """Both monthly costs and where they cross.

    Building costs machines × price × 730.5 hours + fixed costs, with as many machines as the volume needs: a step
    function. Buying is a line through 0. They can cross several times, so both the first crossing and the last are
    given.
    """
    price = (1 - spec.output_share) * spec.api_price_in + spec.output_share * spec.api_price_out
    month = spec.machine_price * HOURS_PER_MONTH
    full = spec.output_tokens_per_s * SECONDS_PER_HOUR * HOURS_PER_MONTH / spec.output_share
    capacity = full * spec.utilization
    needed = math.ceil(spec.tokens_per_month / capacity)
    build = _build(spec, needed, month)
    buy = spec.tokens_per_month * price / MILLION
    first, last = _crossings(spec, price / MILLION, capacity, month)
    return BreakEven(
        spec=spec,
        machines=needed + spec.spare_machines,
        build_per_month=build,
        buy_per_month=buy,
        build_per_million=build / spec.tokens_per_month * MILLION,
        buy_per_million=price,
        tokens_per_machine=capacity,
        utilized=spec.tokens_per_month / (needed * full),
        break_even_tokens=first,
        always_from_tokens=last,
        bill_at_break_even=None if first is None else first * price / MILLION,
        least_utilization=month / (price / MILLION * full) if price else math.inf,
    )


def _build(spec: BreakEvenSpec, machines: int, month: float) -> float:
    """Cost of a month with so many machines at work."""
    return (machines + spec.spare_machines) * month + spec.fixed_per_month


def _crossings(spec: BreakEvenSpec, price: float, capacity: float, month: float) -> tuple[float | None, float | None]:
    """First volume at which building costs no more, and the volume from which it never does.

    With m machines building is cheaper from cost(m) / price on, up to m · capacity. A machine that is full earns
    price · capacity − month; so many of them as pay the fixed part make the first crossing. The last volume at which
    buying is cheaper lies just behind a step: (m − 1) · capacity · price < cost(m).
    """
    earned, fixed = price * capacity - month, _build(spec, 0, month)
    if earned < 0 or (earned == 0 and fixed > 0):
        return None, None
    if earned == 0:
        return 0.0, None if month > 0 else 0.0
    pays = max(1, math.ceil(fixed / earned))
    first = max(_build(spec, pays, month) / price, (pays - 1) * capacity)
    safe = max(1, math.ceil((fixed + month) / earned))  # from here on even the first token of a further machine pays
    return first, max(first, min(_build(spec, safe, month) / price, safe * capacity))
