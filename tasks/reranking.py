"""Tasks that train a cross-encoder on the corpus's own questions and measure what it adds to the search."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from evaluation.comparison import compare_retrieval
from evaluation.retrieval import measurable, retrieval_scores, states
from indexes.build import load_index
from indexes.embedder import EmbedSpec, open_embedder
from indexes.hybrid import RetrievalSpec
from indexes.rerank_training import Asked, CrossEncoderSpec, mined_pairs, train_cross_encoder
from indexes.rerankers import RerankSpec
from indexes.types import Chunk
from infra.errors import InputError
from infra.settings import settings
from infra.store import ArtifactRef, canonical_json, write_atomic
from models.cases import HELD_BACK
from models.training.questions import QuestionMaker
from models.types import Case
from tasks.corpus import chunks_of
from tasks.datasets import held_back
from tasks.indexing import ACCESS, RETRIEVING
from tasks.measuring import cases_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage

LEARNT, MEASURED = "train", "validation"
DEPTH = 50
"""Passages that wrong ones are taken from, and that are ranked again when the cross-encoder is measured."""
METRICS = ("recall_at_1", "mrr_at_10", "evidence_recall_at_1", "evidence_recall_at_5")


class RerankerSpec(CrossEncoderSpec):
    """How a cross-encoder is trained, and on what."""

    made_questions: int = Field(300, ge=0)
    """Most questions made by rule out of the documents that may be learnt from, beside the train cases."""


def _of_cases(cases: Sequence[Case], chunks: Sequence[Chunk]) -> list[Asked]:
    """Each case with the chunks of its documents that state an evidence; without one, the answer."""
    by_document: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_document.setdefault(chunk.document, []).append(chunk)
    asked = []
    for case in cases:
        own = [chunk for document in case.documents for chunk in by_document.get(document, [])]
        wanted = case.evidence or (case.answer,)
        stating = {chunk.id for chunk in own if any(states(chunk.text, text) for text in wanted)}
        asked.append(Asked(question=case.question, relevant=frozenset(stating)))
    return asked


def _made(chunks: Sequence[Chunk], most: int, closed: set[str]) -> list[Asked]:
    """Questions made by rule, spread over the corpus."""
    maker = QuestionMaker(chunks)
    found = [
        Asked(question=made.question, relevant=frozenset({chunk.id}))
        for chunk in chunks
        if chunk.document not in closed
        for made in maker.questions(chunk)[:1]
    ]
    step = max(1, len(found) // most) if most else 1
    return found[::step][:most]


@stage(
    "indexes/rerank_training.py", "models/training/questions.py", "tasks/reranking.py", *RETRIEVING, timeout_s=6 * 3600
)
def train_reranker(
    corpus: ArtifactRef,
    chunks: ArtifactRef,
    index: ArtifactRef,
    cases: ArtifactRef,
    search: RetrievalSpec,
    embedding: EmbedSpec,
    spec: RerankerSpec,
    root: str,
) -> StageResult:
    """A cross-encoder from the train cases and from questions made out of the train documents; others are held back."""
    store, rows = artifact_store(), chunks_of(chunks)
    known = cases_of(cases, [LEARNT, *HELD_BACK])
    asked = [
        *_of_cases(measurable([case for case in known if case.split == LEARNT]), rows),
        *_made(rows, spec.made_questions, held_back(known, corpus)),
    ]
    first_stage = search.model_copy(update={"rerank": None})
    retriever = load_index(store.open(index), open_embedder(embedding), first_stage)

    def ranked(question: str) -> list[str]:
        return [passage.chunk.id for passage in retriever.search(question, ACCESS, DEPTH)]

    pairs = mined_pairs(asked, ranked, {chunk.id: chunk.embedding_text for chunk in rows}, spec.negatives)
    report_progress = progress_logger("train-reranker", "steps")
    training = spec.model_copy(update={"threads": settings().threads})
    with store.writing("reranker") as draft:
        made = train_cross_encoder(
            pairs, training, Path(root), draft.folder, lambda step, steps, _loss: report_progress(step, steps)
        )
    return StageResult(
        refs={"reranker": draft.stored()},
        computed=made.steps,
        total=made.steps,
        metrics={"pairs": made.pairs, "positives": made.positives, "final_loss": made.losses[-1]},
        params={name: str(value) for name, value in spec.model_dump(mode="json").items()},
        curve=list(enumerate(made.losses, 1)),
    )


@stage("evaluation/comparison.py", "evaluation/retrieval.py", "tasks/reranking.py", *RETRIEVING, timeout_s=3600)
def measure_reranker(
    reranker: ArtifactRef, index: ArtifactRef, cases: ArtifactRef, search: RetrievalSpec, embedding: EmbedSpec
) -> StageResult:
    """The first stage alone against its best passages reranked, and against both orders fused; validation cases."""
    store = artifact_store()
    asked = measurable(cases_of(cases, [MEASURED]))
    if not asked:
        raise InputError(f"no answerable case of split {MEASURED} to measure a reranker with; check `cases`")
    progress = progress_logger("measure-reranker", "questions")
    model = str(store.open(reranker))
    ways = {
        "first stage": None,
        "reranked": RerankSpec(kind="cross-encoder", model=model, candidates=DEPTH),
        "fused": RerankSpec(kind="cross-encoder", model=model, candidates=DEPTH, weight=1.0),
    }
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for number, (way, rerank) in enumerate(ways.items()):
        spec = search.model_copy(update={"rerank": rerank})
        retriever = load_index(store.open(index), open_embedder(embedding), spec)
        scores[way] = {}
        for done, case in enumerate(asked, 1):
            scores[way][case.id] = retrieval_scores(retriever.search(case.question, ACCESS, DEPTH), case)
            progress(number * len(asked) + done, len(ways) * len(asked))
    compared = {
        (way, metric): compare_retrieval(scores["first stage"], scores[way], asked, metric)
        for way in ("reranked", "fused")
        for metric in METRICS
        if any(metric in values for values in scores[way].values())
    }
    table = [{"way": way, "metric": metric, **paired.flat()} for (way, metric), paired in compared.items()]
    with store.writing("reranker-report") as draft:
        write_atomic(draft.folder / "reranker.json", canonical_json(table))
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(ways) * len(asked),
        total=len(ways) * len(asked),
        metrics={f"{way}_{metric}": paired.mean_b for (way, metric), paired in compared.items()},
        table=table,
        notes=[
            "To use it, write under `answering.search` of the policy file: "
            f"`rerank: {{kind: cross-encoder, model: {model}}}`, with `weight: 1` for the fused order."
        ],
    )
