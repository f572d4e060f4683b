"""Tasks around the difficulty classifier: trained on which model got which case right, and measured on other cases."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.metrics import case_values
from evaluation.routing import Both, Level, RoutingPolicy, RoutingReport, report_routing
from evaluation.routing_plots import curve_picture, reliability_picture
from evaluation.statistics import Floats, cluster_codes, clusters_of
from indexes.build import load_index
from indexes.embedder import EmbedSpec, open_embedder
from indexes.hybrid import RetrievalSpec
from infra.errors import InputError
from infra.store import ArtifactRef, canonical_json, read_lines, write_atomic, write_lines
from models.answering.difficulty import load_difficulty, save_difficulty
from models.training.difficulty import Described, DifficultySpec, describe, fit_difficulty
from models.types import Case
from tasks.indexing import ACCESS, RETRIEVING
from tasks.measuring import cases_of, scores_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage

CHOSEN, PROVED = "validation", "gate"
"""Splits that the threshold is chosen on, and that it is proved on."""
FORETOLD = "foretold.jsonl"
SHOWN_AMONG = 1000
"""Requests that a cost is given for in the table."""


class Foretold(BaseModel):
    """What a fit to other documents foretold of a case."""

    model_config = ConfigDict(frozen=True)

    case: str
    probability: float


def _values(scores: ArtifactRef, metric: str, cases: list[Case]) -> Floats:
    """The metric of each case. Raises InputError for a case without it."""
    found = case_values(scores_of(scores), metric)
    missing = next((case.id for case in cases if case.id not in found), None)
    if missing:
        raise InputError(f"case {missing}: no {metric}; mend its scorer and run `sluice run difficulty` again")
    return np.array([found[case.id] for case in cases])


def _described(cases: list[Case], index: ArtifactRef, search: RetrievalSpec, embedding: EmbedSpec) -> Described:
    embedder = open_embedder(embedding)
    retriever = load_index(artifact_store().open(index), embedder, search)
    return describe(cases, retriever, embedder, ACCESS, search.k, progress_logger("difficulty", "questions"))


def _both(cases: list[Case], foretold: Floats, small: ArtifactRef, large: ArtifactRef, policy: RoutingPolicy) -> Both:
    """Both models on the same cases. The small one's cost is measured, or the policy's share of the large one's."""
    spent = _values(large, "cost", cases)
    share = policy.small_price
    return Both(
        cases=tuple(case.id for case in cases),
        clusters=clusters_of(cases),
        foretold=foretold,
        small=_values(small, policy.metric, cases),
        large=_values(large, policy.metric, cases),
        small_cost=_values(small, "cost", cases) if share is None else share * spent,
        large_cost=spent,
    )


@stage("models/answering/difficulty.py", "models/training/difficulty.py", "tasks/difficulty.py", *RETRIEVING)
def learn_difficulty(
    cases: ArtifactRef,
    index: ArtifactRef,
    small: str,
    large: str,
    small_scores: ArtifactRef,
    large_scores: ArtifactRef,
    search: RetrievalSpec,
    embedding: EmbedSpec,
    spec: DifficultySpec,
    metric: str,
) -> StageResult:
    """The classifier, with what each validation case was foretold by a fit to other documents."""
    if PROVED in spec.learn or CHOSEN not in spec.learn:
        raise InputError(f"difficulty.learn: must name {CHOSEN} and not {PROVED}, which proves what was learnt")
    asked = cases_of(cases, spec.learn)
    better = _values(small_scores, metric, asked) >= _values(large_scores, metric, asked)
    fitted = fit_difficulty(
        _described(asked, index, search, embedding),
        better.astype(np.float64),
        cluster_codes([case.id for case in asked], clusters_of(asked)),
        np.array([case.split == CHOSEN for case in asked]),
        spec,
        encoder=open_embedder(embedding).version,
        small=small,
        large=large,
    )
    with artifact_store().writing("difficulty") as draft:
        save_difficulty(fitted.model, draft.folder)
        told = zip(asked, fitted.foretold.tolist(), strict=True)
        rows = [Foretold(case=case.id, probability=value) for case, value in told if case.split == CHOSEN]
        write_lines(draft.folder / FORETOLD, rows)
    return StageResult(
        refs={"difficulty": draft.stored()},
        computed=len(asked),
        total=len(asked),
        metrics={"good_enough": float(better.mean()), "slope": fitted.model.card.slope, "strength": fitted.strength},
        table=[{"strength": strength, "log_loss": loss} for strength, loss in fitted.losses.items()],
    )


@stage(
    "models/answering/difficulty.py",
    *(f"evaluation/{name}.py" for name in ("calibration", "routing", "routing_plots", "rules", "intervals")),
    "tasks/difficulty.py",
    *RETRIEVING,
)
def measure_routing(
    difficulty: ArtifactRef,
    cases: ArtifactRef,
    index: ArtifactRef,
    small_scores: ArtifactRef,
    large_scores: ArtifactRef,
    search: RetrievalSpec,
    embedding: EmbedSpec,
    policy: RoutingPolicy,
    level: Level,
) -> StageResult:
    """Calibration, the curve of quality over cost, and the threshold: chosen on validation, proved on gate cases."""
    folder = artifact_store().open(difficulty)
    model = load_difficulty(folder, open_embedder(embedding).version)
    kept = {row.case: row.probability for row in read_lines(folder / FORETOLD, Foretold)}
    chosen_on, proved_on = cases_of(cases, [CHOSEN]), cases_of(cases, [PROVED])
    foretold = np.array([kept[case.id] for case in chosen_on])
    described = _described(proved_on, index, search, embedding)
    sides = [
        _both(asked, values, small_scores, large_scores, policy)
        for asked, values in ((chosen_on, foretold), (proved_on, model.probabilities(*described)))
    ]
    report = report_routing(sides[0], sides[1], policy, level, model.card.small, model.card.large)
    with artifact_store().writing("routing-report") as draft:
        write_atomic(draft.folder / "routing.json", canonical_json(report.model_dump(mode="json")))
        write_atomic(draft.folder / "cost-quality.svg", curve_picture(report))
        write_atomic(draft.folder / "reliability.svg", reliability_picture(report.calibration))
    return _told(draft.stored(), report, len(chosen_on) + len(proved_on))


def _told(ref: ArtifactRef, report: RoutingReport, cases: int) -> StageResult:
    """The report as the run's page shows it."""
    calibration, chosen, gained = report.calibration, report.chosen, report.gained
    rows = [row | {"cost": SHOWN_AMONG * row["cost"]} for row in report.table()]
    return StageResult(
        refs={"report": ref},
        computed=cases,
        total=cases,
        metrics={
            "brier": calibration.brier.mean,
            "brier_of_share": calibration.brier_of_share,
            "calibration_error": calibration.ece.mean,
            "gained": gained.mean,
            "gained_low": gained.low,
            "share": chosen.share if report.threshold is not None else 0.0,
            "saved": chosen.saved if report.threshold is not None else 0.0,
        },
        params={"routing": "small and large" if report.threshold is not None else "always large"},
        table=rows,
        notes=[
            *(f"- {reason}" for reason in report.reasons),
            f"- cost: of {SHOWN_AMONG:,} requests",
            f"- area above routing by lot: {gained.mean:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}]",
            f"- Brier {calibration.brier.mean:.4f}, of the share alone {calibration.brier_of_share:.4f}; calibration "
            f"error {calibration.ece.mean:.4f}, of exact probabilities up to {calibration.ece_by_chance:.4f} by chance",
        ],
    )


def routing_of(report: ArtifactRef) -> RoutingReport:
    """The report of a routing artifact."""
    return RoutingReport.model_validate_json((artifact_store().open(report) / "routing.json").read_text("utf-8"))
