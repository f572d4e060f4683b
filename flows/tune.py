"""Flow: retrieval settings halved on the validation cases, the winner proved on the gate cases, a proposal."""

from typing import Any, Literal

from prefect import flow

from evaluation.tuning import Candidate, Indexing, TuneSpec, candidates, indexings
from flows.index import build_stages, index_stages
from flows.recording import Recording, RunSpec, Summary, recording
from indexes.build import IndexSpec
from indexes.chunkers.spec import ChunkSpec
from indexes.embedder import EmbedSpec
from infra.store import ArtifactRef
from models.answering.pipeline import AnswerSpec
from tasks.corpus import chunk_corpus
from tasks.policy import artifact_store
from tasks.tuning import prove_setting, search_settings


class TuneRunSpec(RunSpec):
    """What a run of the tuning flow asks."""

    tuning: TuneSpec | None = None
    """What is searched, and how far. None: section `tuning` of the policy file; else the values here, all of them."""


class TuneSummary(Summary):
    """The summary, with the rounds, the winner and its proof."""

    winner: str
    """What the winner changes; `as now` where nothing is better."""
    verdict: Literal["PASS", "FAIL", "UNDECIDED", "UNCHANGED"]
    """PASS: on the gate cases the winner is better than the setting of now. UNCHANGED: that one won, nothing is
    proposed and the gate cases were not used."""
    reasons: list[str]
    rounds: list[dict[str, Any]]
    """A row a candidate and round."""
    proof: list[dict[str, Any]]
    """The winner against the setting of now: all gate cases, then their slices."""
    proposal: str = ""
    """The sections of the policy file as the winner has them, as YAML."""


def _index(run: Recording, made_by: Indexing, spec: IndexSpec, label: str) -> ArtifactRef:
    """The corpus chunked, embedded and indexed one way; kept by content like every stage."""
    chunking, embedding = made_by.chunking, made_by.embedding
    chunks = run.run(
        chunk_corpus,
        f"chunk-corpus-{label}",
        corpus=run.ref("drop-duplicates", "corpus"),
        spec=chunking,
        tokenizer=run.ref("take-model", "model"),
        embedding=embedding if chunking.needs_embedder else None,
    ).refs["chunks"]
    return build_stages(run, chunks, embedding, spec, f"-{label}")


def _indexes(run: Recording, found: list[Candidate]) -> dict[str, ArtifactRef]:
    """Name of an Indexing → its index, with all that one of the candidates asks of it."""
    spec = run.policy.section("index", IndexSpec)
    for candidate in found:
        spec = candidate.kept_for(spec)
    return {made_by.name: _index(run, made_by, spec, str(number)) for number, made_by in enumerate(indexings(found))}


def tune_stages(run: Recording, spec: TuneSpec) -> TuneSummary:
    """Index every chunking, halve the candidates, prove the winner. Nothing of the project is changed."""
    policy = run.policy
    now = Indexing(chunking=policy.section("chunking", ChunkSpec), embedding=policy.section("embedding", EmbedSpec))
    found = candidates(spec, now, policy.section("answering", AnswerSpec).search)
    index_stages(run)
    cases, indexes = run.ref("read-cases", "cases"), _indexes(run, found)
    searched = run.run(search_settings, found=found, indexes=indexes, cases=cases, spec=spec)
    winner = found[int(searched.metrics["winner"])]
    told: dict[str, Any] = {"winner": winner.name, "rounds": searched.table}
    if winner == found[0]:
        reasons = ["no candidate was better than the setting of now: nothing is proposed"]
        return TuneSummary(**run.summary().model_dump(), **told, verdict="UNCHANGED", reasons=reasons, proof=[])
    proved = run.run(
        prove_setting,
        current=found[0],
        winner=winner,
        indexes=indexes,
        cases=cases,
        corpus=run.ref("drop-duplicates", "corpus"),
        spec=spec,
        index=run.policy.section("index", IndexSpec),
    )
    return TuneSummary(
        **run.summary().model_dump(),
        **told,
        verdict=proved.params["verdict"],
        reasons=[proved.notes[0]],
        proof=proved.table,
        proposal=(artifact_store().open(proved.refs["proposal"]) / "proposal.yaml").read_text("utf-8"),
    )


@flow(name="tune", description="Search for a better retrieval setting and prove it; changes nothing by itself.")
def tune(spec: TuneRunSpec = TuneRunSpec()) -> TuneSummary:
    """Documents and cases to a proposed retrieval setting with its proof."""
    with recording("tune", spec) as run:
        result = tune_stages(run, spec.tuning or run.policy.section("tuning", TuneSpec))
        run.tracker.log(run.mlflow_run, params={"verdict": result.verdict, "winner": result.winner})
        return result
