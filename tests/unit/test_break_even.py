"""Build or buy: monthly costs by hand, the crossings by trying every volume, and the seed's worked figures."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.break_even import HOURS_PER_MONTH, BreakEvenSpec, break_even

SPEC: dict[str, Any] = {
    "tokens_per_month": 1e9, "output_share": 0.25, "api_price_in": 2.5, "api_price_out": 10.0, "machine_price": 4.0,
    "output_tokens_per_s": 1500.0, "utilization": 0.4, "fixed_per_month": 4000.0,
}  # fmt: skip


def spec(**changed: Any) -> BreakEvenSpec:
    return BreakEvenSpec(**(SPEC | changed))


def test_both_ways_by_hand() -> None:
    told = break_even(spec())
    assert told.buy_per_million == 0.75 * 2.5 + 0.25 * 10
    assert told.buy_per_month == pytest.approx(4375)
    assert told.build_per_month == pytest.approx(4 * 730.5 + 4000)
    assert told.tokens_per_machine == pytest.approx(1500 / 0.25 * 3600 * 730.5 * 0.4)
    assert (told.machines, told.is_build) == (1, False)
    assert told.break_even_tokens == pytest.approx(6922 / 4.375 * 1e6)
    assert told.bill_at_break_even == pytest.approx(6922)


def test_the_usual_bill_from_which_people_host_themselves() -> None:
    """Seed: break-even at about 5,000 to 10,000 dollars a month; here one card with half an engineer's time or less."""
    for fixed in (2500.0, 4000.0, 6500.0):
        bill = break_even(spec(fixed_per_month=fixed)).bill_at_break_even
        assert bill is not None
        assert 5000 <= bill <= 10000


def test_machines_come_in_steps() -> None:
    capacity = break_even(spec()).tokens_per_machine
    for volume, machines in ((1.0, 1), (capacity, 1), (capacity * 1.001, 2), (capacity * 7.5, 8)):
        told = break_even(spec(tokens_per_month=volume, spare_machines=1))
        assert told.machines == machines + 1
        assert told.build_per_month == pytest.approx((machines + 1) * 4 * HOURS_PER_MONTH + 4000)
        assert 0 < told.utilized <= 0.4 + 1e-9


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"fixed_per_month": 0.0},
        {"fixed_per_month": 60000.0},
        {"api_price_in": 0.4, "api_price_out": 0.8},
        {"api_price_in": 0.5, "api_price_out": 1.5, "fixed_per_month": 9000.0, "spare_machines": 2},
        {"machine_price": 20.0, "utilization": 0.3},
    ],
)
def test_the_crossings_are_those_of_trying_every_volume(changed: dict[str, Any]) -> None:
    told = break_even(spec(**changed))
    first, last = told.break_even_tokens, told.always_from_tokens
    assert first is not None
    assert last is not None
    volumes = np.linspace(first / 50, 3 * last, 20_001)
    build = np.array([break_even(spec(**changed, tokens_per_month=volume)).is_build for volume in volumes])
    assert not build[volumes < first * (1 - 1e-9)].any()
    assert build[volumes > last * (1 + 1e-9)].all()
    assert break_even(spec(**changed, tokens_per_month=first * (1 + 1e-9) + 1)).is_build
    dearer = volumes[~build]
    assert dearer.max() == pytest.approx(last, abs=2 * (volumes[1] - volumes[0]))


def test_where_the_api_is_cheaper_at_any_volume() -> None:
    told = break_even(spec(api_price_in=0.02, api_price_out=0.1, utilization=0.1))
    assert (told.break_even_tokens, told.always_from_tokens, told.bill_at_break_even) == (None, None, None)
    assert told.least_utilization > 0.1
    enough = break_even(spec(api_price_in=0.02, api_price_out=0.1, utilization=min(1.0, told.least_utilization * 1.01)))
    assert (enough.break_even_tokens is not None) == (told.least_utilization <= 1)


def test_free_machines_and_a_free_api() -> None:
    free = break_even(spec(machine_price=0.0, fixed_per_month=0.0))
    assert (free.build_per_month, free.break_even_tokens, free.always_from_tokens) == (0, 0, 0)
    assert break_even(spec(api_price_in=0.0, api_price_out=0.0)).break_even_tokens is None


@pytest.mark.parametrize("field", ["tokens_per_month", "utilization", "output_tokens_per_s", "output_share"])
def test_impossible_values(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        spec(**{field: 0})
