"""The tuning flow: every chunking indexed once, the winner of the rounds proved on the gate cases, nothing changed."""

import itertools
import json
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from evaluation.tuning import CURRENT, TuneSpec
from flows.tune import TuneRunSpec, TuneSummary, tune
from infra.errors import InputError, PolicyError
from tests.flows.project import Project, shown_artifacts

METRIC = "mrr_at_10"
SIGNS = ["".join(digits) for digits in itertools.islice(itertools.permutations("135792468"), 0, 24 * 15000, 15000)]


def ask_about_boats(project: Project, gate: int) -> None:
    """A document a boat, alike but for numbers: words tell them apart, vectors hardly. All cases are about boats."""
    splits = ["validation"] * (len(SIGNS) - gate) + ["gate"] * gate
    cases = []
    for number, (sign, split) in enumerate(zip(SIGNS, splits, strict=True)):
        name, berth = f"boat-{number}.md", number + 300
        project.write(name, f"# Berths\n\nThe boat with the sign {sign} lies at berth {berth} of the old harbour.\n")
        question = f"Where does the boat {sign} lie?"
        cases.append(
            {"id": f"c{number}", "question": question, "answer": f"{berth}", "documents": [name], "split": split}
        )
    (project.folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")


def run(**values: Any) -> TuneSummary:
    return tune(TuneRunSpec(tuning=TuneSpec.model_validate({"metric": METRIC, "least_questions": 1, **values})))


def test_every_chunking_is_indexed_once_and_what_is_there_stays_where_nothing_is_better(project: Project) -> None:
    policy = project.policy.read_bytes()
    first = run(
        chunkings=({"strategy": "sentence-window"}, {"max_tokens": 40}), modes=("hybrid", "lexical"), weights=()
    )
    made = [name for name, row in first.stages.items() if row.status == "done" and row.computed]
    assert [name for name in made if name.startswith(("chunk-corpus", "build"))] == [
        "chunk-corpus", "build", "chunk-corpus-1", "build-1", "chunk-corpus-2", "build-2",
    ]  # fmt: skip
    assert {row["candidate"] for row in first.rounds if row["round"] == 1} == {
        CURRENT, "mode=lexical", "strategy=sentence-window", "strategy=sentence-window, mode=lexical",
        "max_tokens=40", "max_tokens=40, mode=lexical",
    }  # fmt: skip
    assert (first.winner, first.verdict, first.proof, first.proposal) == (CURRENT, "UNCHANGED", [], "")
    assert "prove-setting" not in first.stages
    again = run(
        chunkings=({"strategy": "sentence-window"}, {"max_tokens": 40}), modes=("hybrid", "lexical"), weights=()
    )
    assert {row.status for row in again.stages.values()} == {"cached"}
    assert again.rounds == first.rounds
    assert project.policy.read_bytes() == policy


@pytest.mark.parametrize(("documents", "verdict"), [(18, "PASS"), (3, "UNDECIDED")])
def test_a_better_setting_is_proposed_with_its_proof(
    project: Project, mlflow_address: str, documents: int, verdict: str
) -> None:
    ask_about_boats(project, documents)
    project.set("answering", search={"mode": "dense", "k": 50})
    policy = project.policy.read_bytes()
    told = run(modes=("lexical",))
    assert (told.winner, told.verdict) == ("mode=lexical", verdict)
    overall = told.proof[0]
    assert (overall["slice"], overall["cases"], overall["clusters"]) == ("all", documents, documents)
    assert (overall["low"] is None) == (verdict == "UNDECIDED")
    assert [row["slice"] for row in told.proof] == ["all", "format: markdown"]
    assert told.reasons[0].startswith(f"**{verdict}**: mrr_at_10 on {documents} gate cases: ")
    proposed = yaml.safe_load(told.proposal)
    assert proposed["answering"]["search"]["mode"] == "lexical"
    assert proposed["chunking"] == {"max_tokens": yaml.safe_load(policy)["chunking"]["max_tokens"]}
    assert project.stored("retrieval-proposal", "proposal.yaml").read_text("utf-8") == told.proposal
    assert project.policy.read_bytes() == policy
    shown = shown_artifacts()
    assert told.proposal in shown["prove-setting"]
    assert len(json.loads(shown["search-settings-table"])) == len(told.rounds)
    client = MlflowClient(tracking_uri=mlflow_address)
    parent = client.search_runs(["1"], "tags.`sluice.flow` = 'tune'", order_by=["attributes.start_time DESC"])[0]
    assert parent.data.params == {"winner": "mode=lexical", "verdict": verdict}
    (stage,) = client.search_runs(
        ["1"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and attributes.run_name = 'prove-setting'"
    )
    assert stage.data.metrics["difference"] == pytest.approx(overall["difference"])


def test_a_grid_that_does_not_fit_stops_before_anything_is_read(project: Project) -> None:
    with pytest.raises(PolicyError, match=r"tuning: candidate 'max_tokens=1': chunking\.max_tokens: "):
        run(chunkings=({"max_tokens": 1},))
    assert not (project.home / "store").exists()


def test_a_metric_that_the_cases_lack_and_cases_that_are_missing(project: Project) -> None:
    with pytest.raises(InputError, match=r"tuning\.metric: case c-2 has no 'evidence_recall_at_5', only recall_at_1"):
        run(metric="evidence_recall_at_5")
    rows = (project.folder / "cases.jsonl").read_text("utf-8").replace('"validation"', '"train"')
    (project.folder / "cases.jsonl").write_text(rows, "utf-8")
    with pytest.raises(InputError, match="no answerable case of split validation to tune retrieval with"):
        run()
