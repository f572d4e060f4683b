"""The flows that need an engine, on the transformers engine: from documents to a promoted release, and what follows."""

import json
from collections.abc import Iterator

import pytest

from flows.benchmark import benchmark
from flows.evaluate import evaluate
from flows.finetune import finetune
from flows.quantize import quantize
from flows.recording import Summary
from flows.release import release
from infra.records import Records
from infra.settings import settings
from tests.e2e.project import OPEN_GATE, QUICK_CANARY
from tests.flows.project import CASES, Project, serving

pytestmark = pytest.mark.e2e
LOAD = {"mode": "closed", "requests": 3, "warmup": 1, "concurrency": 1, "max_tokens": 4}


@pytest.fixture
def released(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose policy decides quickly, on ports of its own; what it starts is stopped."""
    project.take("guards", "engine", "gateway", "asking", "cost", "training", "training_data", "quantization")
    project.set("gate", **OPEN_GATE)
    project.set("canary", **QUICK_CANARY)
    project.set("quantization_load", **LOAD)
    project.set("benchmark", **LOAD | {"requests": 2})
    project.set("quantization", precisions=[], sweep=["w4a16"], group_size=96)
    project.set("training", epochs=1, batch_size=2)
    project.set("forgetting", tasks=10, margin=0.9)
    project.set("training_data", corpus_questions=4, orders=1)
    rows = [
        {"id": f"t-{number}-{id}", "question": question, "answer": answer, "documents": [document], "split": "traffic"}
        for number in range(4)
        for id, question, answer, document, _ in CASES
    ]
    (project.folder / "traffic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    project.set("traffic", files=["traffic.jsonl"])
    with serving(project, monkeypatch, "GATEWAY", "ENGINE"):
        yield project


def computed(summary: Summary) -> set[str]:
    return {name for name, row in summary.stages.items() if row.status == "done"}


def test_from_documents_to_a_promoted_release(released: Project) -> None:
    told = release()
    live = Records.open(settings().database_url)
    pointers = live.pointers()
    asked_before = {"ask-production", "score-production"}  # production is the first release, which was just asked
    assert computed(told) == set(told.stages) - asked_before
    assert {"ask-first", "gate-first", "finetune-adapter", "choose-precision", "gate", "canary"} <= set(told.stages)
    assert set(pointers) == {"production", "previous"}
    states = {row.digest: row.state for row in live.releases()}
    assert states == {pointers["production"]: "PROMOTED", pointers["previous"]: "FIRST_PASS"}
    rollout = live.rollouts()[0]
    assert (rollout.state, rollout.baseline) == ("PROMOTED", pointers["previous"])

    assert computed(finetune()) == {"ask-base", "score-base", "compare-releases"}
    swept = quantize()
    assert computed(swept) == {"weigh-bf16", "recommend-precision"}
    assert swept.stages["quantize-w4a16"].status == "failed", "one precision that fails does not end the sweep"
    drawn = released.stored("precision-report", "precision-quality.svg")
    told = json.loads(drawn.with_name("precision.json").read_text())
    assert told["rows"][1]["note"].startswith("not served: quantization.group_size: 96 does not divide the 256 inputs")
    assert told["recommendation"]["decision"] == "DISTIL"
    assert set(live.pointers()) == {"production", "previous"}
    loaded = benchmark()
    assert computed(loaded) == {"answer-prompts", "load-closed-1", "report-benchmark"}
    assert [(row["load"], row["requests"], row["errors"]) for row in loaded.loads] == [("closed-1", 2, "none")]
    assert computed(evaluate()) == set()
    again = release()
    assert computed(again) == set()
    assert "canary" not in again.stages
    assert live.pointers() == pointers
