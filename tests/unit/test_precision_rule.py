"""The rule of the quantization sweep: the cheapest precision that keeps the quality, or what to do instead."""

import math

import pytest

from evaluation.precision import Recommendation, Tried, recommend
from infra.errors import InputError
from models.quantizing.methods import METHODS, Precision, bits, is_served
from models.quantizing.spec import Demand, QuantSpec

SPEC = QuantSpec(margin=0.05, alpha=0.05)
SIZES: dict[Precision, int] = {"bf16": 1000, "fp8": 600, "w8a8": 580, "w4a16": 400, "w4a16-awq": 400, "hqq2": 200}
CASES = 400


def tried(precision: Precision, wrong: int = 0, cases: int = CASES, right: int = 0, cost: float | None = None) -> Tried:
    """Right in 3 of 4 cases as bf16 is, but for the first `wrong` of those, and right in `right` more."""
    quality = {f"c-{n}": float(n % 4 != 0) for n in range(cases)}
    good = [case for case, value in quality.items() if value]
    bad = [case for case, value in quality.items() if not value]
    quality |= dict.fromkeys(good[:wrong], 0.0) | dict.fromkeys(bad[:right], 1.0)
    return Tried(precision=precision, bytes_on_disk=SIZES[precision], cost_per_good_answer=cost, quality=quality)


def advised(*items: Tried, spec: QuantSpec = SPEC, tags: dict[str, tuple[str, ...]] | None = None) -> Recommendation:
    return recommend(items, tags or {}, {}, spec)


def test_the_cheapest_that_is_no_worse_wins() -> None:
    found = advised(tried("bf16"), tried("w8a8", 2), tried("w4a16", 4, right=4), tried("fp8"))
    assert (found.decision, found.precision) == ("QUANTIZE", "w4a16")
    assert [finding.precision for finding in found.findings] == ["w4a16", "w8a8", "fp8"]
    assert "cost: 40% of what bf16 costs" in found.advice
    assert "4 better, 4 worse" in found.findings[0].told


def test_one_that_loses_is_passed_over_and_the_next_is_taken() -> None:
    found = advised(tried("bf16"), tried("w8a8", 2), tried("w4a16", 60))
    assert (found.decision, found.precision) == ("QUANTIZE", "w8a8")
    assert found.findings[0].decision == "FAIL"
    assert "worse than allowed" in found.findings[0].told


def test_distil_where_every_smaller_one_loses() -> None:
    found = advised(tried("bf16"), tried("w8a8", 50), tried("w4a16", 90))
    assert (found.decision, found.precision) == ("DISTIL", "bf16")
    assert "sluice run distill" in found.advice
    assert "every smaller precision that the engine serves fails" in found.advice


def test_too_few_cases_are_undecided_and_say_how_many_more() -> None:
    found = advised(tried("bf16", cases=60), tried("w8a8", 1, cases=60, right=1), tried("w4a16", 30, cases=60))
    assert (found.decision, found.precision) == ("UNDECIDED", "bf16")
    assert "w8a8: quality: " in found.advice
    assert "more questions like these needed" in found.advice
    assert "w4a16" not in found.advice


def test_what_the_engine_has_no_kernel_for_is_named_and_never_chosen() -> None:
    found = advised(tried("bf16"), tried("w8a8"), tried("hqq2"))
    assert found.precision == "w8a8"
    assert "hqq2 would do on an engine with a kernel for it" in found.advice
    alone = advised(tried("bf16"), tried("hqq2"))
    assert (alone.decision, alone.precision) == ("DISTIL", "bf16")
    assert "serves none that was tried; hqq2 would do" in alone.advice


def test_one_that_failed_is_a_finding() -> None:
    failed = Tried(precision="w4a16", failure="128 does not divide the 96 inputs")
    found = advised(tried("bf16"), tried("w8a8"), failed)
    assert found.precision == "w8a8"
    assert found.findings[-1].told == "not served: 128 does not divide the 96 inputs"


def test_tags_demand_more_bits_and_a_margin_of_their_own() -> None:
    tags: dict[str, tuple[str, ...]] = {f"c-{n}": ("code",) for n in range(1, 41)}
    given = (tried("bf16"), tried("w8a8"), tried("w4a16", 8, right=8))
    assert advised(*given, tags=tags).precision == "w4a16"
    more_bits = SPEC.model_copy(update={"demands": {"code": Demand(bits=8)}})
    found = advised(*given, tags=tags, spec=more_bits)
    assert found.precision == "w8a8"
    assert "bits for code: 4 bits, at least 8 demanded" in found.findings[0].told
    absent = SPEC.model_copy(update={"demands": {"reasoning": Demand(bits=16, margin=0.0)}})
    assert advised(*given, tags=tags, spec=absent).precision == "w4a16"
    own_margin = SPEC.model_copy(update={"demands": {"code": Demand(margin=0.02)}})
    strict = advised(tried("bf16"), tried("w4a16", 8, right=8), tags=tags, spec=own_margin)
    assert strict.decision == "DISTIL"
    assert strict.findings[0].told.startswith("quality for code: difference")


def test_cost_by_good_answer_may_choose_another() -> None:
    by_money = SPEC.model_copy(update={"cost": "good_answer"})
    given = (tried("bf16", cost=3e-6), tried("w8a8", cost=2e-6), tried("w4a16", cost=5e-6), tried("hqq2"))
    assert advised(*given).precision == "w4a16"
    found = advised(*given, spec=by_money)
    assert found.precision == "w8a8"
    assert [finding.decision for finding in found.findings] == ["PASS", "FAIL", "PASS"]
    assert "no price" in found.findings[-1].told


def test_bf16_and_each_precision_once() -> None:
    with pytest.raises(InputError, match="bf16 among them"):
        advised(tried("w8a8"))
    with pytest.raises(InputError, match="once"):
        advised(tried("bf16"), tried("w8a8"), tried("w8a8"))


def test_the_table_of_methods_is_in_order_and_names_what_is_served() -> None:
    sizes = [bits(name) for name in METHODS]
    assert sizes == sorted(sizes, reverse=True)
    assert [name for name in METHODS if is_served(name)] == ["fp8", "w8a8", "w4a16", "w4a16-awq"]
    assert math.isclose(bits("bf16"), 16)
