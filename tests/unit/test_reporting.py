"""What the report says of releases, loads and answers, from kept values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.recording import data_docs
from flows.reporting import asked_lines, changes_between, is_reported, load_figure, report_page
from infra.store import ArtifactRef
from models.release import ModelPart, Release
from tests.environment import only


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with only(monkeypatch, HOME=tmp_path / "state"):
        yield


def ref(digest: str, uri: str = "/store") -> ArtifactRef:
    return ArtifactRef(kind="x", digest=digest * 64, uri=uri)


def release(uri: str = "/store", **other: Any) -> Release:
    parts: dict[str, Any] = {
        "model": ModelPart(base=ref("a", uri), adapter=ref("b", uri)),
        "prompt": ref("c", uri),
        "index": ref("d", uri),
        "retrieval": {"search": {"k": 50, "mode": "hybrid"}, "context": {"passages": 4}},
        "guards": {"allowed": ["a@example.com", "b@example.com"], "share": 1.0, "mode": "flag"},
        "judge": "1" * 64,
        "code": "2" * 64,
    }
    return Release(**(parts | other))


def test_a_page_a_candidate() -> None:
    page = report_page("ab" * 32)
    assert (page.name, is_reported("ab" * 32)) == ("abababababababab.html", False)
    page.parent.mkdir(parents=True)
    page.write_text("told")
    assert is_reported("ab" * 32)
    assert not is_reported("ac" * 32)


def test_other_addresses_are_no_change() -> None:
    assert changes_between(release(), release("s3://bucket/elsewhere")) == ()


def test_every_part_that_differs_with_what_differs_in_it() -> None:
    candidate = release(
        model=ModelPart(base=ref("e"), precision="w8a8", parent="f" * 64),
        index=ref("9"),
        retrieval={"search": {"k": 50, "mode": "hybrid"}, "context": {"passages": 6}},
        guards={"allowed": ["a@example.com", "c@example.com"], "share": 0.0, "mode": "flag"},
        code="2" * 63 + "3",
    )
    changes = {change.part: (change.before, change.after) for change in changes_between(candidate, release())}
    assert list(changes) == ["model", "index", "retrieval", "guards", "code"]
    assert changes["model"] == (
        f"base {'a' * 12}, adapter {'b' * 12}, precision bf16",
        f"base {'e' * 12}, precision w8a8, parent {'f' * 12}",
    )
    assert changes["index"] == ("d" * 12, "9" * 12)
    assert changes["retrieval"] == ("context passages 4", "context passages 6")
    assert changes["guards"][1].endswith("share 0.0")
    assert "mode" not in changes["guards"][0]


def test_a_part_that_came_or_went() -> None:
    tuned, plain = release(), release(model=ModelPart(base=ref("a")))
    (change,) = changes_between(plain, tuned)
    assert (change.before, change.after) == (f"adapter {'b' * 12}", "none")


@pytest.mark.parametrize(
    ("name", "label", "unit"),
    [
        ("ttft_ms_p95", "first token, P95", "ms"),
        ("e2e_ms_p50", "whole answer, P50", "ms"),
        ("output_tokens_per_s", "output tokens", "tokens/s"),
        ("errors", "errors", "requests"),
    ],
)
def test_figures_of_a_load_in_words(name: str, label: str, unit: str) -> None:
    figure = load_figure(name, 1.5)
    assert (figure.name, figure.value, figure.unit) == (label, 1.5, unit)


def test_answers_with_their_sources() -> None:
    source = {"number": 1, "title": "Guide", "document": "doc-1", "text": "14 days.", "chunk": "c-1"}
    reply = {
        "question": "How long?", "answer": "14 days", "refused": False, "release": "a" * 64, "trace_id": "0" * 32,
        "latency_ms": 3.5, "citations": [source], "arm": "production", "degraded": False,
    }  # fmt: skip
    (told,) = asked_lines([reply])
    assert (told.question, told.answer, told.latency_ms) == ("How long?", "14 days", 3.5)
    assert [(one.document, one.text) for one in told.sources] == [("doc-1", "14 days.")]


def test_data_docs_in_a_folder_and_in_a_bucket() -> None:
    assert data_docs(ref("a", "/state/store/x")) == "file:///state/store/x/files/index.html"
    assert data_docs(ref("a", "s3://bucket/x")) == "s3://bucket/x/files/index.html"
