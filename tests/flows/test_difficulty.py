"""The difficulty flow: both models asked, a classifier learnt and measured, its worth known to `sluice advise`."""

import json
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from evaluation.routing import RoutingReport
from evaluation.types import Observation
from flows.advising import told
from flows.difficulty import DifficultySummary, difficulty
from flows.evaluate import evaluate
from flows.routing import Learnt
from infra.errors import InputError
from infra.processes import ProcessManager
from infra.settings import settings
from infra.store import read_lines, write_atomic
from models.answering.difficulty import load_difficulty
from tasks.policy import artifact_store
from tests.e2e.project import OPEN_GATE, free_ports
from tests.flows.project import Project

pytestmark = pytest.mark.e2e
PLACES = ("Pellam", "Orrin", "Sorrel", "Tarnholt", "Wexby", "Marl")
SPLITS = ("train", "validation", "validation", "validation", "gate", "gate")


@pytest.fixture
def asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Six harbours with two questions each, on the transformers engine and ports of their own."""
    rows = []
    for number, (place, split) in enumerate(zip(PLACES, SPLITS, strict=True)):
        name = f"{place.lower()}.md"
        project.write(
            name,
            f"# Harbour of {place}\n\nA mooring permit for {place} costs {60 + number} euros a season. The harbour of "
            f"{place} has {10 + number} berths, and it opens at 0{5 + number % 4}:30 in summer.\n",
        )
        questions = (
            (f"How much does a mooring permit for {place} cost?", f"{60 + number} euros"),
            (f"How many berths has the harbour of {place}?", f"{10 + number} berths"),
        )
        rows += [
            {"id": f"{place}-{n}", "question": question, "answer": answer, "documents": [name], "split": split}
            for n, (question, answer) in enumerate(questions)
        ]
    (project.folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    project.take("guards", "engine", "asking", "cost", "training", "forgetting", "training_data", "quantization")
    project.set("gate", **OPEN_GATE)
    project.set("training", epochs=1, batch_size=2)
    project.set("training_data", corpus_questions=4, orders=1)
    project.set("quantization_load", mode="closed", requests=2)
    monkeypatch.setenv("SLUICE_ENGINE_PORT", str(free_ports(1)[0]))
    monkeypatch.setenv("SLUICE_ENGINE_KIND", "transformers")
    settings.cache_clear()
    try:
        yield project
    finally:
        ProcessManager(project.home).stop_all()


def made(summary: DifficultySummary) -> set[str]:
    return {name for name, row in summary.stages.items() if row.status == "done"}


def test_what_is_learnt_of_two_models_is_known_and_routes_only_what_it_was_learnt_of(
    asked: Project, mlflow_address: str
) -> None:
    """One long test: what is learnt takes minutes."""
    asked.set("quantization", precisions=[])
    asked.set("routing", use=True)
    with pytest.raises(InputError, match=r"no classifier is kept for small model .* run `sluice run difficulty` first"):
        evaluate()
    is_learnt(asked, mlflow_address)
    with pytest.raises(InputError, match="says always the large model"):
        evaluate()
    allow(asked, 0.0)
    evaluate()
    engines = {
        row.answer.engine.partition(":")[0]
        for path in (asked.home / "store" / "observations").glob("*/files/observations.jsonl")
        for row in read_lines(path, Observation)
        if {span.attributes.get("to") for span in row.answer.spans} > {None}
    }
    assert engines == {"small"}, "the gate's cases were asked as production will be"
    asked.set("guards", max_answer_chars=599)  # another release
    with pytest.raises(InputError, match="no classifier is kept"):
        evaluate()
    asked.set("difficulty", learn=["validation", "gate"])
    with pytest.raises(InputError, match="must name validation and not gate, which proves what was learnt"):
        difficulty()


def is_learnt(asked: Project, mlflow_address: str) -> None:
    """Both models are asked, and what routing is worth is known."""
    found = difficulty()
    assert {"ask-small", "ask-large", "learn-difficulty", "measure-routing"} <= made(found)
    assert (found.stages["ask-small"].total, found.stages["ask-large"].total) == (12, 12)
    assert (found.stages["learn-difficulty"].total, found.stages["measure-routing"].total) == (8, 10)
    assert found.routing == "always large", "six questions prove nothing"
    assert found.reasons[0] == "chosen: always the large model"
    assert (found.curve[0]["small"], found.curve[-1]["small"]) == (0, 1)
    card = asked.stored("difficulty", "difficulty.json")
    model = load_difficulty(card.parent, json.loads(card.read_text("utf-8"))["encoder"])
    assert model.card.cases == 8
    kept = [json.loads(line)["case"] for line in (card.parent / "foretold.jsonl").read_text("utf-8").splitlines()]
    assert kept == [f"{place}-{n}" for place in PLACES[1:4] for n in (0, 1)]
    routing = told()["facts"]["routing"]
    assert (routing["share"], routing["detail"]) == (0, "chosen: always the large model")

    client = MlflowClient(tracking_uri=mlflow_address)
    (stage,) = client.search_runs(["1"], "attributes.run_name = 'measure-routing'")
    assert stage.data.metrics["brier"] == pytest.approx(found.metrics["measure-routing"]["brier"])
    assert {item.path for item in client.list_artifacts(stage.info.run_id)} >= {"cost-quality.svg", "reliability.svg"}
    assert made(difficulty()) == set()


def allow(project: Project, threshold: float) -> None:
    """Let the kept report say that questions from `threshold` on may go to the small model."""
    (path,) = (project.home / "routing").glob("*.json")
    learnt, store = Learnt.model_validate_json(path.read_text("utf-8")), artifact_store()
    kept = store.find("routing-report", learnt.report)
    assert kept is not None
    report = RoutingReport.model_validate_json((store.open(kept) / "routing.json").read_text("utf-8"))
    with store.writing("routing-report") as draft:
        text = report.model_copy(update={"threshold": threshold}).model_dump_json()
        write_atomic(draft.folder / "routing.json", text)
    write_atomic(path, learnt.model_copy(update={"report": draft.stored().digest}).model_dump_json())
