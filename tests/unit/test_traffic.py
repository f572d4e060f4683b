"""The sticky split: equal arms, nobody changes sides while the share grows, forced releases."""

from itertools import pairwise

import pytest

from infra.records import Placement, Rollout
from models.serving.traffic import Assignment, Routing, assign, bucket, forced

PRODUCTION, CANARY = "p" * 64, "c" * 64


def routing(share: float, name: str = "rollout-1") -> Routing:
    rollout = Rollout(
        id=name, baseline=PRODUCTION, canary=CANARY, policy="", share=share, step=0,
        state="RUNNING", reason="", started=0.0, updated=0.0,
    )  # fmt: skip
    placements = {
        release: Placement(release=release, base_url="http://127.0.0.1:1", model="m", updated=0.0)
        for release in (PRODUCTION, CANARY)
    }
    return Routing(production=PRODUCTION, rollout=rollout, placements=placements)


def arms(share: float) -> dict[str, str]:
    found = {f"user-{n}": assign(routing(share), f"user-{n}") for n in range(4000)}
    return {unit: assignment.arm for unit, assignment in found.items() if assignment}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_both_arms_are_of_the_size_of_the_share(share: float) -> None:
    counts = list(arms(share).values())
    error = 4 * (share * (1 - share) / len(counts)) ** 0.5
    assert counts.count("canary") / len(counts) == pytest.approx(share, abs=error)
    assert counts.count("baseline") / len(counts) == pytest.approx(share, abs=error)


def test_who_is_in_an_arm_stays_in_it_while_the_share_grows() -> None:
    steps = [arms(share) for share in (0.01, 0.05, 0.25, 0.5, 1.0)]
    for before, after in pairwise(steps):
        assert all(after[unit] == arm for unit, arm in before.items() if arm != "production")
    assert "production" not in steps[-1].values()


def test_another_rollout_draws_other_users() -> None:
    draws = [{unit for unit in map(str, range(2000)) if bucket(salt, unit) < 0.25} for salt in ("one", "two")]
    common = len(draws[0] & draws[1]) / len(draws[0])
    assert common == pytest.approx(0.25, abs=0.08)


def test_without_rollout_and_without_release() -> None:
    assert assign(Routing(production=PRODUCTION), "u") == Assignment(PRODUCTION, "production")
    assert assign(Routing(), "u") is None
    assert forced(Routing(production=PRODUCTION), CANARY) == Assignment(CANARY, "production")
    assert forced(routing(0.01), CANARY) == Assignment(CANARY, "canary", "rollout-1")
    assert forced(routing(0.01), PRODUCTION) == Assignment(PRODUCTION, "baseline", "rollout-1")


def test_active_releases_are_those_that_an_engine_serves() -> None:
    found = routing(0.1)
    assert found.active == [PRODUCTION, CANARY]
    del found.placements[CANARY]
    assert found.active == [PRODUCTION]
