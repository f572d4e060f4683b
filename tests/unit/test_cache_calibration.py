"""What keeps questions apart, the exact bound, the threshold that is chosen, and the sample's own calibration."""

import json
from pathlib import Path

import pytest

from evaluation.cache_calibration import GRID, JudgedPair, QuestionPair, calibrate, exact_interval
from evaluation.question_pairs import judge, load_pairs
from indexes.embedder import EmbedSpec, open_embedder
from infra.errors import InputError
from infra.settings import ROOT, Policy
from models.serving.cache.semantic import calibration_of
from models.serving.cache.spec import CacheSpec
from models.serving.cache.vetoes import veto

PAIRS = ROOT / "infra" / "sample" / "cases" / "cache_pairs.jsonl"


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("number", "What was the charge in 2024?", "What was the charge in 2025?"),
        ("number", "Is it allowed for two metres?", "Is it allowed for three metres?"),
        ("number", "Who confirms a P1 alarm?", "Who confirms a P2 alarm?"),
        ("unit", "How many days does it take?", "How many weeks does it take?"),
        ("negation", "Can I connect a boiler with a valve?", "Can I connect a boiler without a valve?"),
        ("negation", "Can I pay in cash?", "Can't I pay in cash?"),
        ("opposite", "By how much did the charge increase?", "By how much did the charge decrease?"),
        ("opposite", "What is the minimum pressure?", "What is the maximum pressure?"),
        ("opposite", "What holds before the deadline?", "What holds after the deadline?"),
        ("opposite", "How do I fly from Dunmere to Fallowick?", "How do I fly from Fallowick to Dunmere?"),
        ("kind", "Who empties the tank?", "When is the tank emptied?"),
        ("kind", "How long is the course?", "How often is the course?"),
        ("word", "What does Tarnholt pay?", "What does Iverbrook pay?"),
        ("word", "What is the deposit?", "What is the deposit for a garden meter?"),
        ("word", "Is C++ allowed?", "Is C# allowed?"),
        ("word", "What can I do?", "What should I have?"),
        ("word", "How high is the tank?", "How large is the tank?"),
    ],
)
def test_what_keeps_two_questions_apart(name: str, one: str, other: str) -> None:
    assert veto(one, other) == veto(other, one) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the deposit for a 32 mm meter?", "How much is the deposit on a 32 mm meter?"),
        ("A tank of 2,000 litres: what is the rebate?", "What is the rebate for a tank of 2000 litres?"),
        ("When does the relining begin?", "On what day does the relining start?"),
        ("How long are recordings kept?", "For how many years are recordings kept?"),
        ("How often must a trap be emptied?", "How frequently does the trap have to be emptied?"),
        ("Two payments bounced. When can I pay again?", "When can I pay again? Two payments bounced."),
    ],
)
def test_other_wordings_are_not_kept_apart(one: str, other: str) -> None:
    assert veto(one, other) == veto(other, one) == ""


def test_the_exact_interval() -> None:
    assert exact_interval(0, 100, 0.05) == pytest.approx((0.0, 0.036217), abs=1e-5)
    assert exact_interval(1, 20, 0.05) == pytest.approx((0.001265, 0.248733), abs=1e-5)
    assert exact_interval(5, 5, 0.05) == pytest.approx((0.478176, 1.0), abs=1e-5)
    assert exact_interval(0, 0, 0.05) == (0.0, 1.0)


def judged(same: int, other: int, similarity: float, start: float = 0.99) -> list[JudgedPair]:
    pairs = [JudgedPair(pair=QuestionPair(a="a", b="b", same=True), similarity=start, veto="") for _ in range(same)]
    false = QuestionPair(a="a", b="c", same=False)
    return pairs + [JudgedPair(pair=false, similarity=similarity, veto="") for _ in range(other)]


def test_the_threshold_stays_above_what_hits_falsely() -> None:
    found = calibrate(judged(300, 10, 0.89), 0.03)
    assert found.chosen is not None
    assert (found.chosen.threshold, found.chosen.false) == (0.98, 0)
    assert [one.false for one in found.tried] == [10, 10, 10, 0, 0, 0, 0, 0]
    most = calibrate(judged(300, 10, 0.89, start=0.91), 0.03).chosen
    assert most is not None
    assert most.threshold == 0.90


def test_with_too_few_pairs_or_too_many_false_hits_there_is_none() -> None:
    assert calibrate(judged(100, 0, 0.0), 0.03).chosen is None
    assert calibrate(judged(300, 30, 0.99), 0.03).chosen is None
    assert calibrate([], 0.03).chosen is None
    assert calibrate(judged(300, 0, 0.0), 0.03).chosen is not None


def test_the_bound_is_corrected_for_the_thresholds_that_are_tried() -> None:
    one = calibrate(judged(200, 0, 0.0), 0.03).tried[0]
    assert one.high == pytest.approx(1 - (0.05 / len(GRID)) ** (1 / 200))


def test_pairs_that_are_kept_apart_do_not_hit() -> None:
    pair = JudgedPair(pair=QuestionPair(a="a", b="b", same=False), similarity=1.0, veto="number")
    assert not pair.hits(0.5)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"a": "x", "b": "y", "same": True}) + '\n{"a": 1}\n')
    with pytest.raises(InputError, match=r"pairs\.jsonl:2"):
        load_pairs(path)
    with pytest.raises(InputError, match="no such file"):
        load_pairs(tmp_path / "other.jsonl")


def test_no_question_of_the_samples_pairs_stands_in_both_splits() -> None:
    pairs = load_pairs(PAIRS)
    texts = {
        split: {text for pair in pairs if pair.split == split for text in (pair.a, pair.b)}
        for split in ("calibration", "test")
    }
    assert len(pairs) >= 300
    assert min(map(len, texts.values())) > 100
    assert not texts["calibration"] & texts["test"]


def test_the_samples_threshold_is_the_one_its_pairs_give() -> None:
    """A change of the vetoes, of the encoder or of the pairs needs a new calibration: sluice calibrate-cache."""
    policy = Policy(ROOT / "sluice.yaml")
    spec = policy.section("cache", CacheSpec).semantic
    assert spec is not None
    embedder = open_embedder(policy.section("embedding", EmbedSpec))
    found = calibrate(
        judge([pair for pair in load_pairs(PAIRS) if pair.split == "calibration"], embedder), spec.max_false_hit_rate
    )
    assert found.chosen is not None
    assert (spec.threshold, spec.calibrated_for) == (found.chosen.threshold, calibration_of(embedder.version))
