"""The stage that chooses a precision: measured figures in, the rule's choice and its table out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.load import LoadReport, LoadSpec, Percentiles
from evaluation.types import Score
from infra.cost import CostSpec
from infra.store import ArtifactRef, write_lines
from models.quantizing.methods import Precision
from models.quantizing.spec import QuantSpec
from models.release import ModelPart, Release
from models.types import Case
from tasks.choosing import choose, recommend_precision
from tasks.policy import StageResult, artifact_store
from tasks.quantizing import Weights, weigh, weights_of
from tests.environment import only

SPEC = QuantSpec(margin=0.1, alpha=0.05)
CASES = [Case(id=f"c-{n}", question="?", answer="a", documents=(f"d-{n}",), split="validation") for n in range(40)] + [
    Case(id="other", question="?", answer="a", documents=("d-x",), split="gate")
]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with only(monkeypatch, HOME=tmp_path / "state"):
        yield


def stored(kind: str, **files: bytes) -> ArtifactRef:
    with artifact_store().writing(kind) as draft:
        for name, data in files.items():
            (draft.folder / name.replace("__", ".")).write_bytes(data)
    return draft.stored()


def release(precision: Precision, size: int, adapter: int = 0) -> Release:
    base = stored("model", model__safetensors=b"x" * size, config__json=precision.encode())
    part = stored("prompt", a=b"1")
    lora = stored("adapter", adapter__safetensors=b"y" * adapter) if adapter else None
    model = ModelPart(base=base, adapter=lora, precision=precision)
    return Release(model=model, prompt=part, index=part, retrieval={}, guards={}, judge="1", code="1")


def scores(right: int, without: str = "") -> ArtifactRef:
    rows = [
        Score(case=case.id, metric="answer_correct", value=float(number < right), reason="", scorer="1")
        for number, case in enumerate(CASES)
        if case.split == "validation" and case.id != without
    ]
    with artifact_store().writing("scores") as draft:
        write_lines(draft.folder / "scores.jsonl", rows)
    return draft.stored()


def load(tokens_per_s: float, p95: float | None) -> ArtifactRef:
    spread = Percentiles(n=4, mean=1, p50=1, p95=p95, p99=p95) if p95 else None
    report = LoadReport(
        spec=LoadSpec(), model="m", warmup_excluded=0, seconds=1, ttft_ms=spread, tpot_ms=spread, e2e_ms=spread,
        requests_per_s=1, output_tokens_per_s=tokens_per_s, prompt_tokens=1, cached_tokens=0, errors={}, timings=(),
    )  # fmt: skip
    return stored("load-report", load__json=report.model_dump_json().encode())


def chosen(rights: dict[Precision, int], **more: Any) -> StageResult:
    sizes: dict[Precision, int] = {"bf16": 1000, "w8a8": 550, "w4a16": 300}
    with artifact_store().writing("cases") as draft:
        write_lines(draft.folder / "cases.jsonl", CASES)
    inputs: dict[str, Any] = {
        "releases": {name: release(name, sizes[name], 50 if name == "bf16" else 0) for name in rights},
        "scores": {name: scores(right) for name, right in rights.items()},
        "loads": {name: load(100.0, 12.0) for name in rights},
        "cases": draft.stored(),
        "splits": ["validation"],
        "spec": SPEC,
    }
    result: StageResult = choose.fn(**(inputs | more))
    return result


def test_the_smallest_that_is_no_worse() -> None:
    result = chosen({"bf16": 38, "w8a8": 38, "w4a16": 30})
    assert result.params == {"precision": "w8a8"}
    assert (result.computed, result.total) == (3, 3)
    rows = {row["precision"]: row for row in result.table}
    assert [rows[name]["bytes_on_disk"] for name in ("bf16", "w8a8", "w4a16")] == [1050, 550, 300]
    assert rows["bf16"]["difference"] is None
    assert rows["w8a8"]["difference"]["mean"] == 0
    assert rows["w4a16"]["difference"]["mean"] == pytest.approx(-0.2)
    assert rows["w4a16"]["difference"]["low"] < -SPEC.margin
    assert (rows["w8a8"]["quality"], rows["w8a8"]["p95_ms"]) == (0.95, 12.0)
    assert result.notes[0] == "**w8a8**"
    assert any(note.startswith("- w4a16: ") for note in result.notes)
    kept = artifact_store().open(result.refs["report"]) / "precision.json"
    assert '"precision":"w8a8"' in kept.read_text("utf-8")


def test_four_bits_where_they_cost_nothing() -> None:
    assert chosen({"bf16": 30, "w8a8": 30, "w4a16": 31}).params == {"precision": "w4a16"}


def test_full_precision_where_the_others_are_worse_or_not_tried() -> None:
    assert chosen({"bf16": 38, "w8a8": 20, "w4a16": 0}).params == {"precision": "bf16"}
    alone = chosen({"bf16": 38})
    assert (alone.params, alone.total) == ({"precision": "bf16"}, 1)


def test_a_load_without_an_answer_and_a_case_without_a_score() -> None:
    result = chosen(
        {"bf16": 38, "w8a8": 38},
        scores={"bf16": scores(38, without="c-3"), "w8a8": scores(38)},
        loads={"bf16": load(0.0, None), "w8a8": load(0.0, None)},
    )
    assert [row["p95_ms"] for row in result.table] == [None, None]
    assert result.table[1]["difference"]["n"] == 39


def swept(rights: dict[Precision, int], failures: dict[Precision, str]) -> StageResult:
    sizes: dict[Precision, int] = {"bf16": 1000, "w8a8": 550, "nf4": 300}
    with artifact_store().writing("cases") as draft:
        write_lines(draft.folder / "cases.jsonl", CASES)
    result: StageResult = recommend_precision.fn(
        weights={
            name: Weights(bytes_on_disk=sizes[name], bytes_in_memory=900, memory_from="planner", safe_concurrency=31)
            for name in rights
        },
        scores={name: scores(right) for name, right in rights.items()},
        loads={name: load(100.0, 12.0) for name in rights if name != "nf4"},
        failures=failures,
        cases=draft.stored(),
        splits=["validation"],
        spec=SPEC,
        price=CostSpec(price_per_machine_hour=3.6),
    )
    return result


def test_the_sweep_in_one_table_with_its_pictures() -> None:
    result = swept({"bf16": 38, "w8a8": 38, "nf4": 38}, {"w4a16": "group of 96"})
    assert result.params == {"decision": "QUANTIZE", "precision": "w8a8"}
    rows = {row["precision"]: row for row in result.table}
    assert list(rows) == ["bf16", "w8a8", "nf4", "w4a16"]
    assert [row["note"] for row in rows.values()] == ["", "", "quality only", "not served: group of 96"]
    assert [row["decision"] for row in rows.values()] == [None, "PASS", "PASS", "FAIL"]
    assert (rows["nf4"]["tokens_per_s"], rows["nf4"]["bytes_on_disk"]) == (None, 300)
    assert (rows["w4a16"]["quality"], rows["w4a16"]["bytes_in_memory"]) == (None, None)
    assert rows["w8a8"]["cost_per_good_answer"] == pytest.approx(3.6 / 3600 / (4 * 0.95)), "1 s for 4 requests"
    assert "nf4 would do on an engine with a kernel" in result.notes[0]
    folder = artifact_store().open(result.refs["report"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "precision-quality.svg", "precision-speed.svg", "precision.json",
    ]  # fmt: skip
    picture = (folder / "precision-quality.svg").read_text("utf-8")
    assert picture.index("w8a8") < picture.index("UNDECIDED")
    assert "nf4" not in (folder / "precision-speed.svg").read_text("utf-8")


def test_a_sweep_in_which_all_else_failed() -> None:
    result = swept({"bf16": 38}, {"w8a8": "no kernel", "w4a16": "group of 96"})
    assert result.params == {"decision": "DISTIL", "precision": "bf16"}
    assert "sluice run distill" in result.notes[0]


def test_weights_are_those_that_were_packed(tmp_path: Path) -> None:
    from models.base import STARTER_FOLDER
    from models.quantizing.spec import MakeSpec
    from models.serving.vllm import EngineSpec

    store = artifact_store()
    merged = store.put("model", STARTER_FOLDER)
    with store.writing("model") as draft:
        (draft.folder / "packed").mkdir()
        (draft.folder / "packed" / "model.safetensors").write_bytes(b"p" * 70)
        (draft.folder / "model.safetensors").write_bytes(b"u" * 900)
    part = stored("prompt", a=b"1")
    model = ModelPart(base=draft.stored(), precision="hqq2")
    made = Release(model=model, prompt=part, index=part, retrieval={}, guards={}, judge="1", code="1")
    found = weights_of(weigh.fn(release=made, merged=merged, engine=EngineSpec(), spec=MakeSpec()))
    assert (found.bytes_on_disk, found.memory_from) == (70, "planner")
    assert 1e6 < found.bytes_in_memory < 3e6
    assert found.safe_concurrency >= 62
