"""The reranking flow: trained on train cases alone, measured on validation cases, and usable by its address."""

import json

from flows.rerank import RerankRunSpec, RerankSummary, rerank
from indexes.rerankers import CrossEncoderReranker, RerankSpec
from infra.store import file_digest
from tasks.reranking import RerankerSpec
from tests.flows.project import Project
from tests.tiny_encoder import save_tiny

SPEC = RerankerSpec(base="tiny", epochs=1, negatives=2, made_questions=0, max_tokens=64)


def run() -> RerankSummary:
    return rerank(RerankRunSpec(training=SPEC))


def test_a_cross_encoder_is_trained_measured_and_kept(project: Project) -> None:
    save_tiny(project.folder / "tiny")
    found = run()
    weights = project.stored("reranker", "model.safetensors")
    assert found.model == str(weights.parent)
    report = json.loads((weights.parent / "training.json").read_text("utf-8"))
    assert report["positives"] == 1, "one train case, one chunk that states its evidence"
    assert {row["way"] for row in found.comparison} == {"reranked", "fused"}
    assert {row["cases"] for row in found.comparison} == {1}
    spec = RerankSpec(kind="cross-encoder", model=found.model)
    scores = CrossEncoderReranker(spec, project.folder).scores("When does the ferry leave?", [0, 1], ["At 6.", "No."])
    assert scores.shape == (2,)
    before = file_digest(weights)
    again = run()
    assert {row.status for row in again.stages.values()} == {"cached"}
    assert file_digest(weights) == before
