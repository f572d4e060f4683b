"""Flow: a cross-encoder trained on the corpus's own questions, and measured against the search without it."""

from typing import Any

from prefect import flow
from pydantic import Field

from flows.index import index_stages
from flows.recording import Recording, RunSpec, Summary, recording
from indexes.embedder import EmbedSpec
from models.answering.pipeline import AnswerSpec
from tasks.reranking import RerankerSpec, measure_reranker, train_reranker


class RerankRunSpec(RunSpec):
    """What a run of the reranking flow asks."""

    training: RerankerSpec | None = None
    """How the cross-encoder is trained. None: section `reranker` of the policy file; else the values here, all."""


class RerankSummary(Summary):
    """The summary, with where the cross-encoder lies and what it adds."""

    model: str
    """Folder of the cross-encoder, for `answering.search.rerank.model`."""
    comparison: list[dict[str, Any]] = Field(default_factory=list)
    """Reranked and fused order against the first stage, a row a metric."""


def rerank_stages(run: Recording, spec: RerankerSpec) -> RerankSummary:
    """Train and measure. Nothing of the project is changed."""
    index_stages(run)
    index, cases = run.ref("build", "index"), run.ref("read-cases", "cases")
    search, embedding = run.policy.section("answering", AnswerSpec).search, run.policy.section("embedding", EmbedSpec)
    reranker = run.run(
        train_reranker,
        corpus=run.ref("drop-duplicates", "corpus"),
        chunks=run.ref("chunk-corpus", "chunks"),
        index=index,
        cases=cases,
        search=search,
        embedding=embedding,
        spec=spec,
        root=str(run.policy.path.parent.resolve()),
    ).refs["reranker"]
    measured = run.run(
        measure_reranker, reranker=reranker, index=index, cases=cases, search=search, embedding=embedding
    )
    return RerankSummary(**run.summary().model_dump(), model=f"{reranker.uri}/files", comparison=measured.table)


@flow(name="rerank", description="Train a cross-encoder on the corpus's own questions and measure it.")
def rerank(spec: RerankRunSpec = RerankRunSpec()) -> RerankSummary:
    """From documents and train cases to a reranker with its figures."""
    with recording("rerank", spec) as run:
        return rerank_stages(run, spec.training or run.policy.section("reranker", RerankerSpec))
