"""The report page: a realistic night renders, everything from data is escaped, and nothing is fetched."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from evaluation.canary import CanaryPolicy, CanaryState, Outcome, decide
from evaluation.gate import GatePolicy, ReleaseScores
from evaluation.gate import decide as decide_gate
from evaluation.metrics import table
from evaluation.report import bytes_shown, duration, number, render, safe_link, signed, write_report
from evaluation.run_report import (
    Asked,
    Change,
    DuplicateLine,
    Figure,
    Link,
    QuantizationLine,
    QuarantineLine,
    RetrievalLine,
    RunReport,
    Source,
    StageLine,
    gate_report,
    metric_lines,
)
from evaluation.statistics import clusters_of
from evaluation.types import Interval, Score
from infra.settings import ROOT, Policy
from models.types import Case

CANDIDATE, PRODUCTION = "9f1c" * 16, "03ab" * 16
CASES = [
    Case(id=f"q{i:03}", question="", documents=(f"d{i // 5:02}",), tags=("injected document",)) for i in range(159)
]
RATES = {
    "answer_correct": (0.61, 0.78),
    "token_f1": (0.70, 0.85),
    "refusal_correct": (0.86, 0.91),
    "citation_valid": (0.72, 0.88),
    "faithfulness": (0.88, 0.93),
    "answer_relevance": (0.74, 0.86),
    "context_precision": (0.83, 0.83),
    "context_recall": (0.91, 0.91),
    "pii_leak": (0.0, 0.0),
    "forbidden_shown": (0.0, 0.0),
    "error": (0.0, 0.0),
}


def drawn(release: str, side: int) -> ReleaseScores:
    """Scores of a release; the same dice for both sides, so that they agree on most questions."""
    dice = np.random.default_rng(1)
    values = {name: dice.random(len(CASES)) < rates[side] for name, rates in RATES.items()}
    latency = dice.gamma(9, 30 + 8 * side, size=len(CASES))
    found = {name: chosen.astype(float) for name, chosen in values.items()}
    found |= {"latency_ms": latency, "cost": latency * 1e-8}
    return ReleaseScores(
        release,
        [
            Score(case=case.id, metric=name, value=float(value), reason="", scorer=f"{name}@1")
            for name, column in found.items()
            for case, value in zip(CASES, column, strict=True)
        ],
    )


def canary_outcomes() -> list[Outcome]:
    dice = np.random.default_rng(5)
    found = []
    for key in range(560):
        right = dice.random() < 0.75
        for arm, wrong in (("baseline", 0.18), ("canary", 0.05)):
            rating = 1 if right and dice.random() > wrong else -1
            row = {"key": str(key), "arm": arm, "error": False, "unsafe": False, "rating": rating}
            found.append(Outcome.model_validate(row | {"latency_ms": float(dice.gamma(9, 40))}))
    return found


STAGES = [
    ("ingest", "done", 6.2, 3, 74),
    ("validate", "done", 9.8, 74, 74),
    ("chunk", "cached", 0.1, 0, 412),
    ("embed", "done", 4.4, 17, 412),
    ("finetune-adapter", "done", 148.6, 240, 240),
    ("quantize-w8a8", "done", 12.1, 1, 1),
    ("benchmark", "done", 64.0, 192, 192),
    ("ask-candidate", "done", 41.2, 159, 159),
    ("ask-production", "cached", 0.1, 0, 159),
    ("gate", "done", 0.9, 14, 14),
    ("canary", "done", 131.5, 392, 392),
]


def night() -> RunReport:
    candidate, production = drawn(CANDIDATE, 1), drawn(PRODUCTION, 0)
    rules = Policy(ROOT / "sluice.yaml")
    gate = rules.section("gate", GatePolicy)
    clusters = clusters_of(CASES)
    first, second = decide_gate(production, None, gate, CASES), decide_gate(candidate, production, gate, CASES)
    canary = decide(canary_outcomes(), rules.section("canary", CanaryPolicy), CanaryState())
    steps = np.arange(0, 241, 4)
    loss = 2.9 * np.exp(-steps / 55) + 0.35 + np.random.default_rng(2).normal(0, 0.04, len(steps))
    return RunReport(
        project="Merrowvale Water",
        started="2026-11-20 02:00",
        seconds=431.4,
        verdict=second.decision,
        canary_end="PROMOTED" if canary.action == "PROMOTE" else "HELD",
        release=CANDIDATE,
        candidate=CANDIDATE,
        previous=PRODUCTION,
        changes=(
            Change(part="model adapter", before="none", after="LoRA 5d1f0c3b9a21"),
            Change(part="model precision", before="bf16", after="w8a8"),
            Change(part="index", before="88a0c1d2e3f4", after="1b7e9a0d4c55"),
        ),
        stages=tuple(
            StageLine.model_validate(dict(zip(("name", "status", "seconds", "computed", "total"), row, strict=True)))
            for row in STAGES
        ),
        documents_read=74,
        chunks_total=412,
        chunks_embedded=17,
        quarantined=(
            QuarantineLine(document="operations/pump-list.docx", reason="encrypted: save it without a password"),
            QuarantineLine(document="notices/2023-old.html", reason="empty after the text was taken out"),
        ),
        duplicates=(
            DuplicateLine(
                document="tariffs/old.md", repeats="tariffs/new.md", similarity=1.0, outcome="dropped",
                reason="has the same text as tariffs/new.md",
            ),
        ),
        duplicates_dropped=1,
        retrieval=tuple(
            RetrievalLine(
                mode=mode, cases=129, metrics={"recall@1": a, "recall@5": b, "recall@10": c, "mrr@10": d, "ndcg@10": e}
            )
            for mode, a, b, c, d, e in (
                ("dense", 0.713, 0.915, 0.961, 0.803, 0.842),
                ("lexical", 0.744, 0.899, 0.93, 0.812, 0.841),
                ("hybrid", 0.798, 0.953, 0.984, 0.866, 0.895),
            )
        ),
        metrics=metric_lines(table(candidate.scores, clusters), table(production.scores, clusters)),
        gates=(
            gate_report("Candidate against production", second, gate),
            gate_report("First release: the starter as it is", first, gate),
        ),
        canary=canary,
        quantization=(
            QuantizationLine(
                precision="bf16", bytes_on_disk=11_800_000, tokens_per_s=610.2, p50_ms=212, p95_ms=388,
                quality=Interval(mean=0.78, low=0.63, high=0.88, n=41),
            ),
            QuantizationLine(
                precision="w8a8", bytes_on_disk=6_400_000, tokens_per_s=702.9, p50_ms=187, p95_ms=341, chosen=True,
                quality=Interval(mean=0.78, low=0.63, high=0.88, n=41),
                difference=Interval(mean=0.0, low=-0.086, high=0.086, n=41),
            ),
            QuantizationLine(
                precision="w4a16", bytes_on_disk=4_100_000, tokens_per_s=588.0, p50_ms=226, p95_ms=402,
                quality=Interval(mean=0.68, low=0.52, high=0.81, n=41),
                difference=Interval(mean=-0.098, low=-0.24, high=0.031, n=41),
            ),
        ),
        quantization_why="w8a8 is the smallest whose quality is within the margin of bf16.",
        benchmark=(
            Figure(name="Time to first token, P50", value=48.2, unit="ms"),
            Figure(name="Time to first token, P95", value=131.0, unit="ms"),
            Figure(name="Time per token, P50", value=7.9, unit="ms"),
            Figure(name="Request, P50", value=187, unit="ms"),
            Figure(name="Request, P95", value=341, unit="ms"),
            Figure(name="Throughput", value=702.9, unit="tokens/s"),
        ),
        training_curve=tuple(zip(steps.tolist(), loss.tolist(), strict=True)),
        asked=(
            Asked(
                question="How much is the standing charge of the Household Standard tariff?",
                answer="6.40 euros a month [1]",
                refused=False, release=CANDIDATE, trace_id="tr-5b1f2a90c3", latency_ms=213.4,
                sources=(
                    Source(
                        number=1, title="Household Standard tariff 2026: Standing charge",
                        document="tariffs/household-standard-2026.md",
                        text="The standing charge of the Household Standard tariff is 6.40 euros a month.",
                    ),
                ),
            ),
            Asked(
                question="What is Ann Example's private phone number?", answer="I cannot give personal data.",
                refused=True, release=CANDIDATE, trace_id="tr-77c0de1199", latency_ms=98.0, sources=(),
            ),
        ),
        costs=(Figure(name="1,000 answers", value=0.004, unit="EUR"), Figure(name="Night", value=0.01, unit="EUR")),
        machine={"Cores": "2", "Memory": "8 GB", "GPU": "none"},
        links=(
            Link(label="MLflow run of the night", url="http://127.0.0.1:5000/#/experiments/1/runs/abc"),
            Link(label="Data Docs", url="file:///tmp/docs/index.html"),
            Link(label="Looks like a link", url="javascript:alert(1)"),
        ),
        simplified=(
            "The model is the built-in one of 12 MB; name any other in sluice.yaml.",
            "Thumbs come from a simulated user.",
        ),
    )  # fmt: skip


class Tags(HTMLParser):
    """Collects tags, and everything a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.fetched: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        values = dict(attrs)
        self.fetched += [value for name in ("src", "srcset", "data") if (value := values.get(name))]
        self.links += [values.get("href") or ""] if tag == "a" else []


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_a_night_renders_every_section_without_script_or_network(tmp_path: Path) -> None:
    report = night()
    write_report(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    tags = parsed(page)
    assert not tags.fetched and not {"script", "link", "iframe", "img"} & tags.names
    assert "url(http" not in page and "@import" not in page
    assert all(link.startswith(("http://127.0.0.1", "file:///")) for link in tags.links) and len(tags.links) == 2
    for section in (
        "gate",
        "metrics",
        "canary",
        "asked",
        "quantization",
        "retrieval",
        "stages",
        "links",
        "simplified",
        "duplicates",
    ):
        assert f'<section id="{section}">' in page
    assert "simulated" in page and report.headline in page and CANDIDATE in page


def test_the_page_is_the_same_for_the_same_report() -> None:
    assert render(night()) == render(night())


def test_everything_from_data_is_escaped() -> None:
    evil = "<script>alert(1)</script> & $x_{1}$ {{ 7*7 }}"
    whole = night()
    changed = whole.model_copy(
        update={
            "project": evil,
            "quantization_why": evil,
            "simplified": (evil,),
            "quarantined": (QuarantineLine(document=evil, reason=evil),),
            "duplicates": (whole.duplicates[0].model_copy(update={"document": evil, "reason": evil}),),
            "asked": tuple(one.model_copy(update={"question": evil, "answer": evil}) for one in whole.asked),
            "metrics": tuple(line.model_copy(update={"metric": evil}) for line in whole.metrics),
        }
    )
    page = render(changed)
    assert "script" not in parsed(page).names
    assert "<script>" not in page and "{{ 7*7 }}" in page


def test_the_gate_shows_the_value_applied_beside_the_one_for_real_models() -> None:
    second, first = night().gates
    assert first.first_release and first.production is None
    faithful = next(line for line in second.lines if (line.rule, line.kind) == ("faithfulness", "absolute"))
    assert (faithful.applied, faithful.production) == (faithful.floor, 0.9)
    assert faithful.production_met is False, "0.906 measured, but the bound is below 0.90"
    start = next(line for line in first.lines if line.rule == "faithfulness")
    assert start.applied == start.first_release
    assert {line.kind for line in first.lines} == {"absolute", "zero"}, "nothing is compared without production"


def test_an_unchanged_night_renders_with_nothing_but_its_stages() -> None:
    report = RunReport(
        project="p", started="now", seconds=2, verdict="UNCHANGED", canary_end="NONE", release="r", candidate="r",
        previous=None, stages=(StageLine(name="ingest", status="cached", seconds=0.0, computed=0, total=3),),
    )  # fmt: skip
    page = render(report)
    assert "Nothing changed" in page and "<svg" not in page and "0 of 3" in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (0.0, "0"), (1.0, "1"), (0.9, "0.900"), (0.01234, "0.0123"), (-0.5, "−0.500"), (3000.0, "3,000"),
        (12345.6, "12,346"), (2.834e9, "2.83e9"), (float("inf"), "∞"), (0.0000042, "4.20e−6"),
    ],
)  # fmt: skip
def test_numbers_are_shown_with_three_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_other_formats() -> None:
    assert (signed(0.5), signed(-0.5), signed(0.0)) == ("+0.500", "−0.500", "0")
    assert (duration(3.21), duration(75), duration(3725)) == ("3.2 s", "1 min 15 s", "1:02:05")
    assert bytes_shown(11_800_000) == "11.8 MB"
    assert safe_link("javascript:x") == "" and safe_link("https://a.example/") == "https://a.example/"
