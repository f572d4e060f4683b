"""Tasks from chunks to an index that was measured: embed what is new, build, check retrieval."""

import numpy as np

from evaluation.retrieval import retrieval_scores
from indexes.build import IndexSpec, build_index, load_index
from indexes.cache import EmbeddingCache
from indexes.embedder import EmbedSpec, embed_chunks, open_embedder
from indexes.filters import Filters
from indexes.hybrid import RetrievalSpec
from indexes.retriever import MODES, Mode
from indexes.tokens import tokenwise, write_token_vectors
from indexes.vectors.choose import IndexNeed, choose
from indexes.vectors.compare import compare
from infra.errors import InputError
from infra.settings import settings
from infra.store import ArtifactRef, canonical_json, read_lines, text_digest, write_atomic
from models.types import Case
from tasks.corpus import TRAFFIC, chunks_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage

ACCESS = frozenset({"public", "staff"})
"""Labels that measurements see with: cases ask about documents of both kinds."""
RETRIEVING = (
    "indexes/build.py",
    "indexes/entities.py",
    "indexes/filters.py",
    "indexes/graph.py",
    "indexes/hybrid.py",
    "indexes/lexical.py",
    "indexes/rerankers.py",
    "indexes/tokens.py",
    "indexes/vectors",
    "indexes/weights.py",
)
"""Source that decides what a search finds."""
PROMPTING = (*RETRIEVING, "models/answering", "models/prompts.py", "models/marks.py")
"""Source that decides what a model is asked with it."""
DEPTH = 10
MOST_QUESTIONS = 500
"""Questions that the kinds of index are compared with, at most."""


@stage(
    "indexes/embedder.py",
    "indexes/endpoint.py",
    "indexes/tokens.py",
    "indexes/parallel.py",
    "indexes/types.py",
    "indexes/weights.py",
)
def embed(chunks: ArtifactRef, spec: EmbedSpec, token_vectors: bool) -> StageResult:
    """Vectors of every chunk, and of every token where asked; what was embedded before comes from the caches."""
    rows = list(chunks_of(chunks))
    embedder = open_embedder(spec)
    store, cache = artifact_store(), EmbeddingCache(settings().home / "embeddings")
    progress = progress_logger("embed", "chunks")
    texts = [text_digest(row.embedding_text) for row in rows]
    refs, computed = {}, 0
    if token_vectors:
        with store.writing("token-vectors") as draft:
            kept = EmbeddingCache(settings().home / "token-vectors")
            computed, _ = write_token_vectors(draft.folder, rows, tokenwise(embedder), kept, cache, progress)
            kept.trim(embedder.version, texts)
        refs["tokens"] = draft.stored()
    vectors, anew, total = embed_chunks(rows, embedder, cache, progress, spec.at_once)
    cache.trim(embedder.version, texts)
    computed = max(computed, anew)
    with store.writing("vectors") as draft:
        np.save(draft.folder / "vectors.npy", vectors, allow_pickle=False)
        write_atomic(draft.folder / "embedder.json", canonical_json({"version": embedder.version}))
    return StageResult(
        refs={"vectors": draft.stored(), **refs},
        computed=computed,
        total=total,
        metrics={"embedded": computed, "chunks": total},
        params={"embedder": embedder.version},
        notes=[f"{computed} of {total} chunks embedded, the others taken from the cache"],
    )


@stage(*RETRIEVING)
def build(
    chunks: ArtifactRef, vectors: ArtifactRef, tokens: ArtifactRef | None, spec: IndexSpec, embedding: EmbedSpec
) -> StageResult:
    """Vector index, BM25 and what else the spec keeps of the chunks, in one folder."""
    store = artifact_store()
    rows = list(chunks_of(chunks))
    matrix = np.load(store.open(vectors) / "vectors.npy", allow_pickle=False)
    with store.writing("index") as draft:
        version = open_embedder(embedding).version
        build_index(rows, matrix, spec, version, draft.folder, store.open(tokens) if tokens else None)
    return StageResult(refs={"index": draft.stored()}, computed=len(rows), total=len(rows))


@stage("evaluation/normalization.py", "evaluation/retrieval.py", *RETRIEVING)
def check_retrieval(
    index: ArtifactRef, cases: ArtifactRef, spec: RetrievalSpec, embedding: EmbedSpec, splits: list[str]
) -> StageResult:
    """Recall, MRR and nDCG of dense, lexical and hybrid search on the answerable cases of `splits` (empty: all).

    Where the release reranks or filters, what it does then is measured as well, in row `release`.
    """
    store = artifact_store()
    asked = [
        case
        for case in read_lines(store.open(cases) / "cases.jsonl", Case)
        if case.expected == "answer" and (case.split in splits if splits else case.split != TRAFFIC)
    ]
    if not asked:
        raise InputError("no answerable case to measure retrieval with; check `cases` in the policy")
    retriever = load_index(store.open(index), open_embedder(embedding), spec)
    progress = progress_logger("check-retrieval", "questions")
    ways: dict[str, Mode | None] = {mode: mode for mode in MODES}
    if spec.rerank or spec.filters != Filters():
        ways["release"] = None
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number, case in enumerate(asked, 1):
        for name, mode in ways.items():
            scores[name].append(retrieval_scores(retriever.search(case.question, ACCESS, DEPTH, mode), case))
        progress(number, len(asked))
    means = {name: _means(rows) for name, rows in scores.items()}
    with store.writing("retrieval-report") as draft:
        write_atomic(draft.folder / "retrieval.json", canonical_json(means))
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(asked),
        total=len(asked),
        metrics={
            f"{mode}_{name.replace('@', '_at_')}": value for mode, row in means.items() for name, value in row.items()
        },
        table=[{"mode": mode, **{name: round(value, 4) for name, value in row.items()}} for mode, row in means.items()],
    )


@stage("indexes/vectors", cached=False)
def compare_indexes(
    vectors: ArtifactRef, cases: ArtifactRef, spec: IndexSpec, embedding: EmbedSpec, need: IndexNeed
) -> StageResult:
    """Every kind of vector index measured on the project's own vectors and questions; times are of this machine.

    The notes say which kind suits what is asked of the index, why, and why not another.
    """
    store = artifact_store()
    matrix = np.load(store.open(vectors) / "vectors.npy", allow_pickle=False)
    asked = [case.question for case in read_lines(store.open(cases) / "cases.jsonl", Case)][:MOST_QUESTIONS]
    if not asked:
        raise InputError("no question to compare indexes with; check `cases` in the policy")
    embedder = open_embedder(embedding)
    queries = np.stack([embedder.query(question) for question in asked])
    rows = compare(matrix, queries, spec, progress=progress_logger("compare-indexes", "kinds"), need=need)
    table = [row.flat() for row in rows]
    with store.writing("index-comparison") as draft:
        write_atomic(draft.folder / "indexes.json", canonical_json(table))
    return StageResult(
        refs={"comparison": draft.stored()},
        computed=sum(row.measured is not None for row in rows),
        total=len(rows),
        metrics={
            f"{row.kind}_{name}": float(value)
            for row in rows
            for name, value in (row.measured.model_dump() if row.measured else {}).items()
        },
        table=table,
        notes=_chosen(need, matrix.shape, spec),
    )


def _chosen(need: IndexNeed, shape: tuple[int, int], spec: IndexSpec) -> list[str]:
    try:
        return list(choose(need.of(*shape), spec).reasons)
    except InputError as error:
        return [str(error)]


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every metric over the cases that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
