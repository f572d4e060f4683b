"""Tasks that search for a better retrieval setting on the validation cases and prove it on the gate cases."""

from collections.abc import Sequence

import yaml

from evaluation.comparison import Paired
from evaluation.retrieval import measurable
from evaluation.tuning import Candidate, TuneSpec, halving, proof, tuning_scores
from indexes.build import IndexSpec, load_index
from indexes.embedder import open_embedder
from indexes.hybrid import HybridRetriever
from indexes.types import Passage
from infra.errors import InputError
from infra.store import ArtifactRef, canonical_json, write_atomic
from models.types import Case
from tasks.corpus import documents_of
from tasks.indexing import ACCESS, RETRIEVING
from tasks.measuring import cases_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage

SEARCHING = (
    "evaluation/tuning.py",
    "evaluation/comparison.py",
    "evaluation/retrieval.py",
    "evaluation/intervals.py",
    "tasks/tuning.py",
    *RETRIEVING,
)
"""Source that decides what a candidate scores."""
SEARCHED, PROVED = "validation", "gate"
"""Splits: choices are made on the first, the second sees the winner alone."""

Scores = dict[str, dict[str, float]]
"""Case id → metric → value."""


class _Bench:
    """Puts cases to candidates. `indexes`: name of an Indexing → its index."""

    def __init__(self, indexes: dict[str, ArtifactRef], spec: TuneSpec) -> None:
        self._indexes = indexes
        self._spec = spec

    def scores(self, candidate: Candidate, cases: Sequence[Case]) -> Scores:
        """Every metric of each case."""
        folder = artifact_store().open(self._indexes[candidate.indexing.name])
        retriever = load_index(folder, open_embedder(candidate.indexing.embedding), candidate.retrieval)
        return {
            case.id: tuning_scores(_found(retriever, candidate, case.question), case, self._spec.budget_tokens)
            for case in cases
        }

    def metric(self, candidate: Candidate, cases: Sequence[Case]) -> list[float]:
        """The metric that is maximised. Raises InputError for a case that does not have it."""
        scores, name = self.scores(candidate, cases), self._spec.metric
        for case, values in scores.items():
            if name not in values:
                raise InputError(f"tuning.metric: case {case} has no {name!r}, only {', '.join(values)}")
        return [values[name] for values in scores.values()]


def _found(retriever: HybridRetriever, candidate: Candidate, question: str) -> list[Passage]:
    """What a candidate hands on for a question, as the release would where no model helps the search."""
    search = candidate.retrieval
    return retriever.search(question, ACCESS, search.k, neighbours=search.pattern == "graph")


def _measured(cases: ArtifactRef, split: str) -> list[Case]:
    found = measurable(cases_of(cases, [split]))
    if not found:
        raise InputError(f"no answerable case of split {split} to tune retrieval with; check `cases` in the policy")
    return found


@stage(*SEARCHING)
def search_settings(
    found: list[Candidate], indexes: dict[str, ArtifactRef], cases: ArtifactRef, spec: TuneSpec
) -> StageResult:
    """Successive halving of the candidates on the validation cases; the winner's place is `metrics["winner"]`."""
    bench, asked = _Bench(indexes, spec), {case.id: case for case in _measured(cases, SEARCHED)}
    progress = progress_logger("search-settings", "questions")
    done, most = 0, len(found) * len(asked)

    def measure(candidate: Candidate, names: Sequence[str]) -> list[float]:
        nonlocal done
        values = bench.metric(candidate, [asked[name] for name in names])
        done += len(names)
        progress(done, most)
        return values

    result = halving(found, list(asked), measure, spec)
    with artifact_store().writing("tuning-rounds") as draft:
        write_atomic(draft.folder / "rounds.json", canonical_json(result.model_dump(mode="json")))
    last = result.rounds[-1].rows[0]
    return StageResult(
        refs={"rounds": draft.stored()},
        computed=result.asked,
        total=result.asked,
        metrics={
            "winner": found.index(result.winner),
            "candidates": len(found),
            "rounds": len(result.rounds),
            "mean": last.mean,
        },
        params={"winner": result.winner.name, "metric": spec.metric},
        table=result.table(),
        notes=[
            f"**{result.winner.name}** has the highest {spec.metric} of {len(found)} candidates: {last.mean:.4f} on "
            f"{len(asked)} validation cases. {result.asked} questions were asked; the whole grid takes {most}.",
        ],
    )


@stage(*SEARCHING)
def prove_setting(
    current: Candidate,
    winner: Candidate,
    indexes: dict[str, ArtifactRef],
    cases: ArtifactRef,
    corpus: ArtifactRef,
    spec: TuneSpec,
    index: IndexSpec,
) -> StageResult:
    """The winner against the setting of now on the gate cases, and the proposal that a person may take from it."""
    asked, bench = _measured(cases, PROVED), _Bench(indexes, spec)
    before, after = bench.scores(current, asked), bench.scores(winner, asked)
    formats = {document.id: document.media for document in documents_of(corpus)}
    rows = proof(before, after, asked, spec.metric, formats)
    proposal = yaml.safe_dump(winner.proposed(index), sort_keys=False)
    with artifact_store().writing("retrieval-proposal") as draft:
        write_atomic(draft.folder / "proposal.yaml", proposal)
        write_atomic(draft.folder / "proof.json", canonical_json([row.model_dump(mode="json") for row in rows]))
    overall = rows[0]
    return StageResult(
        refs={"proposal": draft.stored()},
        computed=2 * len(asked),
        total=2 * len(asked),
        metrics=_figures(overall),
        params={"winner": winner.name, "metric": spec.metric, "verdict": overall.verdict},
        table=[row.flat() for row in rows],
        notes=[
            f"**{overall.verdict}**: {_told(overall)}",
            "Nothing was changed. The sections of the policy file as the winner has them:",
            f"```yaml\n{proposal}```",
        ],
    )


def _figures(paired: Paired) -> dict[str, float]:
    interval = {"low": paired.low, "high": paired.high}
    return {
        "current": paired.mean_a,
        "winner": paired.mean_b,
        "difference": paired.difference,
        "cases": float(paired.cases),
        **{name: value for name, value in interval.items() if value is not None},
    }


def _told(paired: Paired) -> str:
    """A comparison as a sentence."""
    interval = (
        paired.detail if paired.low is None or paired.high is None else f"from {paired.low:+.4f} to {paired.high:+.4f}"
    )
    return (
        f"{paired.metric} on {paired.cases} gate cases: {paired.mean_a:.4f} now, {paired.mean_b:.4f} with the winner, "
        f"difference {paired.difference:+.4f} ({interval}); {paired.better} better, {paired.worse} worse"
    )
