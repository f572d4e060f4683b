"""The ingest flow on Prefect's harness: kept results, changes, validation, wrong policies, damage, other runs."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.ingest import ingest
from flows.recording import PROGRESS, RunSpec, Summary
from indexes.duplicates import Duplicate
from indexes.types import Chunk
from infra.errors import InputError, PolicyError, TryAgainError
from infra.settings import settings
from infra.store import read_lines
from tests.flows.project import Project, shown_artifacts

STAGES = [
    "take-model", "read-corpus", "drop-duplicates", "check-documents", "chunk-corpus", "check-chunks", "read-cases",
]  # fmt: skip
HOLDER = """
import fcntl, sys
with open(sys.argv[1], "a+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    lock.write('{"pid": 4711}')
    lock.flush()
    print("held", flush=True)
    sys.stdin.read()
"""


def statuses(summary: Summary) -> dict[str, str]:
    return {name: row.status for name, row in summary.stages.items()}


def made(summary: Summary) -> set[str]:
    """The stages that had to run."""
    return {name for name, status in statuses(summary).items() if status != "cached"}


def runs_of(address: str, flow: str) -> list[tuple[str, str, str]]:
    """(run id, name, status) of the flow's runs and their children, oldest first."""
    client = MlflowClient(tracking_uri=address)
    parents = client.search_runs(["1"], f"tags.`sluice.flow` = '{flow}'", order_by=["attributes.start_time DESC"])
    found = client.search_runs(
        ["1"], f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'", order_by=["attributes.start_time ASC"]
    )
    return [(run.info.run_id, run.info.run_name, run.info.status) for run in [parents[0], *found]]


def test_everything_once_and_then_only_what_changed(project: Project, mlflow_address: str) -> None:
    first = ingest()
    assert list(first.stages) == STAGES
    assert set(statuses(first).values()) == {"done"}
    assert first.metrics["read-corpus"]["documents"] == 3
    assert first.stages["chunk-corpus"].computed == first.metrics["chunk-corpus"]["chunks"] > 3
    (parent, _, status), *stages = runs_of(mlflow_address, "ingest")
    assert (status, first.mlflow_run.endswith(parent)) == ("FINISHED", True)
    assert [(name, ended) for _, name, ended in stages] == [(name, "FINISHED") for name in STAGES]

    second = ingest()
    assert set(statuses(second).values()) == {"cached"}
    assert {row.computed for row in second.stages.values()} == {0}
    assert {name: row.total for name, row in second.stages.items()} == {
        name: row.total for name, row in first.stages.items()
    }
    assert second.metrics == first.metrics

    ferry = (project.documents / "ferry.md").read_text("utf-8")
    project.write("ferry.md", ferry.replace("21:15", "21:45"))
    changed = ingest()
    assert made(changed) == {"read-corpus", "drop-duplicates", "check-documents", "chunk-corpus", "check-chunks"}
    assert [first.documents, second.documents, changed.documents] == [{"added": 3}, {}, {"changed": 1}]
    shown = shown_artifacts()
    assert json.loads(shown["documents-changed"]) == [{"document": "ferry.md", "change": "changed", "before": ""}]
    rows = {row["stage"]: row for row in json.loads(shown["ingest-stages"])}
    assert list(rows) == STAGES
    assert (rows["read-corpus"]["computed"], rows["read-corpus"]["total"]) == (1, 3)

    project.write("ferry.md", ferry)
    assert made(ingest()) == set()

    written = (project.folder / "cases.jsonl").read_text("utf-8")
    (project.folder / "cases.jsonl").write_text(written.replace("c-1", "c-0"), "utf-8")
    assert made(ingest()) == {"read-cases"}

    project.set("chunking", max_tokens=60)
    assert made(ingest()) <= {"chunk-corpus", "check-chunks"}


def test_a_bad_document_is_quarantined_and_the_rest_goes_on(project: Project) -> None:
    project.write("broken.pdf", "%PDF-1.4 and then nothing")
    project.write("empty.md", "")
    summary = ingest()
    assert summary.metrics["read-corpus"] == {"documents": 3, "quarantined": 2, "superseded": 0}


def test_a_copied_document_leaves_the_index_and_is_named(project: Project) -> None:
    ferry = (project.documents / "ferry.md").read_text("utf-8")
    project.write("old-ferry.md", ferry.replace("# Ferry", "# FERRY") + "\n")
    summary = ingest()
    told = summary.metrics["drop-duplicates"]
    assert (told["documents"], told["duplicates_dropped"], told["duplicates_kept"]) == (3, 1, 0)
    (row,) = read_lines(project.stored("duplicates", "duplicates.jsonl"), Duplicate)
    assert (row.id, row.kept, row.kind, row.dropped) == ("old-ferry.md", "ferry.md", "exact", True)
    chunks = list(read_lines(project.stored("chunks", "chunks.jsonl"), Chunk))
    assert {chunk.document for chunk in chunks} == {"ferry.md", "lighthouse.html", "mooring.md"}


def test_personal_data_in_many_documents_is_a_warning_or_stops_the_flow(project: Project) -> None:
    project.write("contact.md", "# Harbour master\n\nWrite to anna.quill@example.org or call 555-0134 for a berth.\n")
    project.set("validation", max_personal_share=0.1)
    with pytest.raises(PolicyError, match=r"sluice\.yaml: guards\."):
        ingest()
    project.take("guards")
    assert ingest().stages["check-documents"].status == "done"
    project.set("validation", levels={"personal": "error"})
    with pytest.raises(InputError, match=r"documents failed validation: personal: .*contact\.md"):
        ingest()


def test_a_failing_validation_stops_the_flow_and_names_the_rows(
    project: Project, mlflow_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    project.write("torn.md", "# Torn\n\nThe fee of the harbour office is \ufffd\ufffd euros a year, paid in March.\n")
    with (
        caplog.at_level(logging.INFO, PROGRESS.name),
        pytest.raises(InputError, match=r"documents failed validation: .*torn\.md.*index\.html") as raised,
    ):
        ingest()
    page = Path(str(raised.value).rsplit("see ", 1)[1])
    assert page.is_file()
    rows = {vars(record)["stage"]: vars(record)["row"].status for record in caplog.records if "row" in vars(record)}
    assert rows == {
        "take-model": "done", "read-corpus": "done", "drop-duplicates": "done", "check-documents": "failed",
    }  # fmt: skip
    (_, _, status), *stages = runs_of(mlflow_address, "ingest")
    assert status == "FAILED"
    assert [(name, ended) for _, name, ended in stages] == [
        ("take-model", "FINISHED"), ("read-corpus", "FINISHED"), ("drop-duplicates", "FINISHED"),
        ("check-documents", "FAILED"),
    ]  # fmt: skip
    project.write("torn.md", "# Mended\n\nThe fee of the harbour office is 12 euros a year, paid in March.\n")
    assert ingest().stages["check-documents"].status == "done"


def test_a_wrong_policy_is_refused_before_anything_ran(project: Project) -> None:
    project.set("canary", alpha=2)
    with pytest.raises(PolicyError, match=r"sluice\.yaml: canary\.alpha: .*got 2"):
        ingest()
    project.drop("canary")
    project.drop("corpus")
    with pytest.raises(PolicyError, match=r"sluice\.yaml: corpus\.documents: Field required"):
        ingest()
    assert not (project.home / "run.lock").exists()
    assert not (project.home / "store").exists()


def test_a_missing_folder_is_named(project: Project) -> None:
    project.set("corpus", documents="docs")
    with pytest.raises(InputError, match=r"docs: no such file or folder; check the paths in the policy"):
        ingest()


def test_damaged_artifacts_are_made_again_and_never_used(project: Project) -> None:
    ingest()
    kinds = {"model": "model.safetensors", "corpus": "documents.jsonl", "chunks": "chunks.jsonl"}
    paths = [project.stored(kind, file) for kind, file in kinds.items()]
    sound = [path.read_bytes() for path in paths]
    for path, data in zip(paths, sound, strict=True):
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert made(ingest()) == {"take-model", "read-corpus", "chunk-corpus"}
    assert [path.read_bytes() for path in paths] == sound
    assert made(ingest()) == set()

    paths[2].unlink()
    for kept in (project.home / "results").glob("read-cases-*"):
        kept.write_bytes(kept.read_bytes()[:100])
    assert made(ingest()) == {"chunk-corpus", "read-cases"}
    assert paths[2].read_bytes() == sound[2]
    assert made(ingest()) == set()


@pytest.fixture
def holder(project: Project) -> "subprocess.Popen[str]":
    """Another process that holds the lock of the state folder until its input ends."""
    project.home.mkdir(parents=True)
    command = [sys.executable, "-c", HOLDER, str(project.home / "run.lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_leave_while_another_run_works(project: Project, holder: "subprocess.Popen[str]") -> None:
    try:
        with pytest.raises(TryAgainError, match=r"another run holds .*process 4711.*left, as asked"):
            ingest(RunSpec(when_busy="leave"))
        project.set("night", when_busy="leave")
        with pytest.raises(TryAgainError, match="left, as asked"):
            ingest()
        assert not (project.home / "store").exists()
    finally:
        holder.communicate("")


def test_wait_while_another_run_works(project: Project, holder: "subprocess.Popen[str]") -> None:
    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for the run of process 4711" in record.getMessage():
                assert not (project.home / "store").exists()
                threading.Thread(target=holder.communicate, args=("",)).start()

    logger, watching = logging.getLogger("prefect.flow_runs"), Waiting()
    logger.addHandler(watching)
    try:
        assert set(statuses(ingest()).values()) == {"done"}
    finally:
        logger.removeHandler(watching)
        holder.kill()
    assert holder.wait() == 0
    assert (project.home / "run.lock").read_text() == ""


def test_another_policy_file_by_the_spec(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    other.write("extra.md", "# Harbour office\n\nThe harbour office opens at 08:30 and closes at 17:45 on weekdays.\n")
    summary = ingest(RunSpec(policy=other.policy))
    assert summary.metrics["read-corpus"]["documents"] == 4
    assert settings().policy == other.policy
    assert json.loads(project.stored("corpus", "splits.json").read_text("utf-8")) == {}
