"""The index flow: from documents to measured retrieval, only what is new is embedded, damage is never used."""

import json
import shutil

import pytest

from flows.index import IndexRunSpec, index
from flows.recording import Summary
from indexes.build import load_index
from indexes.embedder import EmbedSpec, open_embedder
from infra.errors import InputError
from tests.flows.project import CASES, Project


def made(summary: Summary) -> set[str]:
    return {name for name, row in summary.stages.items() if row.status != "cached"}


def test_only_what_is_new_is_embedded(project: Project) -> None:
    first = index()
    assert [name for name in first.stages if name in {"embed", "build", "check-retrieval"}] == [
        "embed", "build", "check-retrieval",
    ]  # fmt: skip
    chunks = first.stages["chunk-corpus"].total
    assert (first.stages["embed"].computed, first.stages["embed"].total) == (chunks, chunks)
    measured = first.metrics["check-retrieval"]
    assert first.stages["check-retrieval"].total == len(CASES)
    assert measured["hybrid_recall_at_1"] == 1.0
    assert all(0 < value <= 1 for value in measured.values())

    second = index()
    assert made(second) == set()
    assert second.stages["embed"].computed == 0
    assert second.metrics == first.metrics

    ferry = (project.documents / "ferry.md").read_text("utf-8")
    project.write("ferry.md", ferry + "\n## Luggage\n\nA bicycle costs 3 euros on every crossing of the ferry.\n")
    changed = index()
    assert changed.stages["embed"].status == "done"
    assert 0 < changed.stages["embed"].computed < changed.stages["embed"].total == chunks + 1
    assert {"take-model", "take-prompt", "read-cases"}.isdisjoint(made(changed))

    project.write("ferry.md", ferry)
    assert made(index()) == set()


def test_damaged_vectors_and_a_damaged_index_are_made_again(project: Project) -> None:
    index()
    paths = [project.stored("vectors", "vectors.npy"), project.stored("index", "chunks.jsonl")]
    sound = [path.read_bytes() for path in paths]
    for path, data in zip(paths, sound, strict=True):
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = index()
    assert made(again) == {"embed", "build"}
    assert again.stages["embed"].computed == 0, "the vectors were taken from the cache"
    assert [path.read_bytes() for path in paths] == sound


def test_no_case_that_can_be_answered(project: Project) -> None:
    row = {"id": "c", "question": "Who is the mayor?", "expected": "refusal", "split": "gate"}
    (project.folder / "cases.jsonl").write_text(json.dumps(row), "utf-8")
    with pytest.raises(InputError, match="no answerable case to measure retrieval with"):
        index()


def test_every_kind_of_vector_index_is_compared_when_asked(project: Project) -> None:
    assert index().indexes == []
    compared = index(IndexRunSpec(compare=True))
    rows = {row["kind"]: row for row in compared.indexes}
    chunks = compared.stages["embed"].total
    assert rows["flat"]["rows"] == chunks
    assert rows["hnsw-mapped"]["recall_at_10"] == 1.0
    assert "take kind flat or hnsw" in rows["ivf-pq"]["note"]
    assert rows["ivf-pq"]["recall_at_10"] is None
    assert (compared.stages["compare-indexes"].computed, compared.stages["compare-indexes"].total) == (5, 8)
    assert compared.choice[0].startswith("flat: up to 10,000 rows a scan takes milliseconds")
    assert compared.metrics["compare-indexes"]["hnsw_recall_at_10"] == 1.0


def stored(project: Project) -> set[tuple[str, str]]:
    """Kind and digest of the artifacts in a project's store that are made of documents."""
    store = project.home / "store"
    return {(kind, path.name) for kind in ("corpus", "chunks", "vectors", "index") for path in (store / kind).iterdir()}


def counts(summary: Summary) -> dict[str, tuple[int, int]]:
    """(computed, total) of the stages that look at single documents or chunks."""
    stages = ("read-corpus", "drop-duplicates", "chunk-corpus", "embed")
    return {name: (summary.stages[name].computed, summary.stages[name].total) for name in stages}


def test_every_stage_computes_only_the_documents_that_differ(project: Project) -> None:
    """Change one, delete one, rename one; then bring one back, start from nothing, and lose the caches."""
    lighthouse, ferry = project.documents / "lighthouse.html", project.documents / "ferry.md"
    page, timetable = lighthouse.read_text("utf-8"), ferry.read_text("utf-8")
    first = counts(index())
    assert set(first.values()) == {(3, 3), (4, 4)}, "mooring.md has two chunks"
    before = stored(project)

    project.write("ferry.md", timetable.replace("21:15", "21:45"))
    lighthouse.unlink()
    (project.documents / "mooring.md").rename(project.documents / "berths.md")
    assert counts(index()) == {
        "read-corpus": (1, 2),
        "drop-duplicates": (1, 2),
        "chunk-corpus": (3, 3),
        "embed": (1, 3),
    }, "a renamed document is cut again, because its chunks are named after it, and embedded no more"
    made_now = stored(project) - before
    assert {kind for kind, _ in made_now} == {"corpus", "chunks", "vectors", "index"}
    (built,) = (digest for kind, digest in made_now if kind == "index")
    found = load_index(project.home / "store" / "index" / built / "files", open_embedder(EmbedSpec()))
    for mode in ("dense", "lexical"):
        passages = found.search("How many steps has the lighthouse?", frozenset({"public"}), 10, mode)
        assert {passage.chunk.document for passage in passages} <= {"ferry.md", "berths.md"}

    project.write("lighthouse.html", page)
    assert counts(index()) == {
        "read-corpus": (0, 3),
        "drop-duplicates": (0, 3),
        "chunk-corpus": (0, 4),
        "embed": (0, 4),
    }, "it was kept for a while"

    lighthouse.unlink()
    shutil.rmtree(project.home)
    assert set(counts(index()).values()) == {(2, 2), (3, 3)}
    assert stored(project) == made_now, "the same bytes as from nothing"
    for kept in ("results", "documents"):
        shutil.rmtree(project.home / kept)
    (project.home / "embeddings").write_bytes(b"no database")
    assert set(counts(index()).values()) == {(2, 2), (3, 3)}
    assert stored(project) == made_now
