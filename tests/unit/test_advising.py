"""`sluice advise` and `sluice break-even`: from records, store and reports, or a file, to what a person reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evaluation.facts import answer_facts, find_patterns
from evaluation.gate import GatePolicy, ReleaseScores, decide
from evaluation.metrics import case_values
from evaluation.routing import report_routing
from evaluation.types import Observation, Score
from flows.advising import keep_routing, told
from flows.cli import app
from infra.errors import InputError
from infra.records import Records
from infra.settings import ROOT, Policy, settings
from infra.store import ArtifactRef, canonical_json, write_lines
from models.release import ModelPart, Release
from models.types import Answer, Case, Span
from tasks.policy import artifact_store
from tasks.releasing import gate as gate_stage
from tests.environment import only
from tests.unit.test_routing import LEVEL, POLICY, easy

GATE = Policy(ROOT / "sluice.yaml").section("gate", GatePolicy)
METRICS = (
    "faithfulness", "answer_relevance", "context_precision", "citation_valid", "pii_leak", "forbidden_shown",
    "answer_correct", "error", "latency_ms", "cost", "refusal_correct", "context_recall",
)  # fmt: skip
PART = ArtifactRef(kind="x", digest="a" * 64, uri="/store")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only(monkeypatch, HOME=tmp_path / "state", PREFECT_URL="http://127.0.0.1:9/api", MLFLOW_URL="sqlite://"):
        (tmp_path / "state").mkdir()
        yield tmp_path / "state"


def sluice(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def release(adapter: bool = True, prompt: str = "a") -> Release:
    model = ModelPart(base=PART, adapter=PART if adapter else None)
    other = PART.model_copy(update={"digest": prompt * 64})
    return Release(model=model, prompt=other, index=PART, retrieval={}, guards={}, judge="1", code="2")


def observation(number: int, digest: str = "") -> Observation:
    """Every third question is about a table, in a folder of its own."""
    kind = "table" if number % 3 == 0 else "fact"
    document = f"{kind}s/d{number // 6}.md"
    case = Case(
        id=f"c{number}", question="?", answer="a", documents=(document,), evidence=("e",), tags=(kind,), split="gate"
    )
    spans = (Span(name="generate", start_ns=0, end_ns=75_000_000),)
    answer = Answer(
        question="?", answer="a", citations=(), refused=False, release=digest, trace_id="t", latency_ms=100.0,
        retrieved=(document,) if number % 10 else (), spans=spans,
    )  # fmt: skip
    return Observation(case=case, answer=answer)


def scores(observations: list[Observation], **changed: Any) -> list[Score]:
    """All is well but for what is changed: metric → function of the case's number."""
    bad = ("pii_leak", "forbidden_shown", "error")
    usual = {name: float(name not in bad) for name in METRICS} | {"latency_ms": 100.0, "cost": 0.0001}
    return [
        Score(
            case=row.case.id,
            metric=name,
            value=changed[name](int(row.case.id[1:])) if name in changed else value,
            reason="",
            scorer=f"{name}@1",
        )
        for row in observations
        for name, value in usual.items()
    ]


def test_a_group_that_goes_wrong_again_and_again_is_found_and_the_searches_faults_are_not_the_models() -> None:
    rows = [observation(number) for number in range(240)]
    rated = scores(rows, answer_correct=lambda number: float(number % 3 != 0 or number % 2))
    right = case_values(rated, "answer_correct")
    shown = {row.case.id: 1.0 for row in rows}
    found = find_patterns(rows, right, shown, GATE, 5)
    assert [(one.group, one.cases, one.wrong) for one in found] == [
        ("documents tables/", 80, 40), ("tag table", 80, 40),
    ]  # fmt: skip
    assert found[0].share_of_wrong == 1
    assert found[0].rate.low is not None
    assert found[0].rate.low > found[0].others == 0
    unseen = {case: float(right[case]) for case in right}
    assert find_patterns(rows, right, unseen, GATE, 5) == ()
    assert find_patterns(rows, right, shown, GATE, 41) == ()
    even = case_values(scores(rows, answer_correct=lambda number: float(number % 4 != 0)), "answer_correct")
    assert find_patterns(rows, even, shown, GATE, 5) == ()


def test_what_the_answers_say() -> None:
    rows = [observation(number, "f" * 64) for number in range(100)]
    facts = answer_facts(
        rows,
        scores(
            rows,
            faithfulness=lambda number: 0.5 if number < 20 else 1.0,
            context_recall=lambda number: float(number >= 15),
        ),
        GATE,
        5,
    )
    assert facts.release == "f" * 64
    assert facts.evidence_found is not None
    assert facts.evidence_found.value == 0.9
    assert facts.evidence_shown is not None
    assert facts.evidence_shown.value == 0.85
    assert facts.unsupported is not None
    assert facts.unsupported.value == 0.2
    assert facts.unsupported_unseen is not None
    assert facts.unsupported_unseen.value == 0.75
    assert facts.generation_share is not None
    assert facts.generation_share.value == 0.75


def measured(one: Release, **changed: Any) -> None:
    """A release with its answers, scores and gate report, as a night leaves them."""
    rows = [observation(number, one.digest) for number in range(200)]
    store = artifact_store()
    with store.writing("observations") as answers:
        write_lines(answers.folder / "observations.jsonl", rows)
    with store.writing("scores") as rated:
        write_lines(rated.folder / "scores.jsonl", scores(rows, **changed))
    report = gate_stage.fn(one.digest, None, answers.stored(), rated.stored(), None, GATE).refs["gate-report"]
    Records.open(settings().database_url).add_release(one.digest, one.model_dump(mode="json"), report.digest, "FAIL")


def test_before_the_first_night_it_says_what_to_run() -> None:
    done = sluice("advise")
    assert done.exit_code == 0
    assert "1. Measure first (measure)" in done.output
    assert "sluice run nightly" in done.output


def test_the_newest_measured_release_is_what_it_speaks_of() -> None:
    one, two = release(adapter=False), release(prompt="b")
    measured(one, faithfulness=lambda number: float(number % 2), context_recall=lambda number: float(number % 2))
    first = told()
    assert first["release"] == one.digest
    assert [step["kind"] for step in first["recommendations"]] == ["retrieval"]
    assert first["facts"]["tried"] == ["rag"]
    measured(two, answer_correct=lambda number: float(number % 3 != 0))
    second = told()
    assert second["release"] == two.digest
    assert [step["kind"] for step in second["recommendations"]] == ["sft", "larger-model"]
    assert set(second["facts"]["tried"]) == {"prompt", "rag", "fine-tune"}
    assert told(release=one.digest[:8])["release"] == one.digest
    with pytest.raises(InputError, match="release 'zz': 0 match; see `sluice releases list`"):
        told(release="zz")


def test_rows_and_routing_that_are_kept_are_known() -> None:
    with artifact_store().writing("dataset") as draft:
        (draft.folder / "rows.jsonl").write_text("{}\n" * 7)
    keep_routing(report_routing(easy(1, "v"), easy(2, "g"), POLICY, LEVEL, "s", "l"))
    facts = told()["facts"]
    assert facts["rows"] == 7
    assert facts["routing"]["saved"] > 0.3
    keep_routing(report_routing(easy(1, "v"), easy(2, "g", good=60), POLICY, LEVEL, "s", "l"))
    assert told()["facts"]["routing"]["share"] == 0


def test_facts_of_a_file_hold_before_those_kept_and_may_be_given_back(tmp_path: Path) -> None:
    measured(release())
    asked = sluice("advise", "--json")
    kept = json.loads(asked.output)
    assert [step["kind"] for step in kept["recommendations"]] == ["keep"]
    file = tmp_path / "facts.json"
    file.write_text(canonical_json(kept["facts"] | {"style": 0.4, "pairs": 300}))
    done = sluice("advise", "--facts", str(file))
    assert done.exit_code == 0, done.stderr
    assert "1. Optimize preferences: right answers are disliked for how they are said (dpo)" in done.output
    assert "40 % of right answers are disliked, 10 % may be" in done.output


def test_the_values_of_the_other_profile() -> None:
    measured(release(), faithfulness=lambda number: float(number % 5 != 0))
    assert [step["kind"] for step in told()["recommendations"]] == ["keep"]
    strict = told(profile="production")
    assert strict["profile"] == "production"
    assert strict["recommendations"][0]["kind"] == "grounding"
    assert "0.8, at least 0.9 asked" in strict["recommendations"][0]["because"][0]["told"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"rules": {"faith": 1}}', "the gate has no rule 'faith', it has: faithfulness: absolute;"),
        ('{"evidence_shwn": 1}', "evidence_shwn: Extra inputs are not permitted"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_wrong_facts_file(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "facts.json"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        told(file)
    with pytest.raises(InputError, match="cannot be read"):
        told(tmp_path / "none.json")


ASKED = ("break-even", "--tokens-per-month", "2e9", "--api-price-in", "2.5", "--api-price-out", "10")


def test_build_or_buy() -> None:
    done = sluice(*ASKED, "--output-tokens-per-s", "1500", "--machine-price", "4", "--fixed-per-month", "4000")
    assert done.exit_code == 0
    assert "build, at 2,000,000,000 tokens a month" in done.output
    assert "break-even: 1,582,171,429 tokens a month" in done.output
    plain = json.loads(sluice(*ASKED, "--output-tokens-per-s", "1500", "--json").output)
    assert plain["spec"]["machine_price"] == 0.08, "the policy's price"
    assert plain["build"] is True


def test_a_wrong_option_of_build_or_buy() -> None:
    from flows.advising import build_or_buy

    with pytest.raises(InputError, match="--utilization: Input should be less than or equal to 1"):
        build_or_buy(
            tokens_per_month=1.0, api_price_in=1.0, api_price_out=1.0, output_tokens_per_s=1.0, utilization=1.5
        )


def test_the_gate_keeps_what_stands_behind_its_verdict() -> None:
    one = release()
    measured(one)
    row = Records.open(settings().database_url).release(one.digest)
    assert row is not None
    report = artifact_store().find("gate-report", row.gate_report)
    assert report is not None
    behind = json.loads((artifact_store().open(report) / "behind.json").read_text())
    assert artifact_store().find("observations", behind["observations"]) is not None
    assert artifact_store().find("scores", behind["scores"]) is not None
    rows = [observation(number) for number in range(200)]
    assert decide(ReleaseScores("x", scores(rows)), None, GATE, [row.case for row in rows]).decision == "PASS"
