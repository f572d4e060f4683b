"""Tasks that judge precisions by what was measured of each: the night's choice, and the sweep's recommendation."""

from collections.abc import Mapping
from typing import Any

from evaluation.intervals import difference_interval
from evaluation.load import LoadReport
from evaluation.metrics import case_values, vector
from evaluation.precision import Recommendation, Tried, recommend
from evaluation.precision_plots import quality_picture, speed_picture
from evaluation.statistics import cluster_codes, clusters_of
from evaluation.types import Interval
from infra.cost import CostSpec, cost
from infra.store import ArtifactRef, canonical_json, write_atomic
from models.quantizing.choice import Measured, choose_precision
from models.quantizing.methods import Precision, bits, is_served
from models.quantizing.spec import QuantSpec
from models.release import Release
from tasks.measuring import cases_of, load_of, scores_of
from tasks.policy import StageResult, artifact_store, stage
from tasks.quantizing import Weights, bytes_on_disk

QUALITY = "answer_correct"
"""The metric that precisions are compared by."""


def _difference(
    own: Mapping[str, float], base: Mapping[str, float], clusters: Mapping[str, str], alpha: float
) -> Interval | None:
    """Paired difference to bf16 with its one-sided bounds; None where no case was answered by both."""
    paired = {case: value - base[case] for case, value in own.items() if case in base}
    codes = cluster_codes(list(paired), clusters)
    return difference_interval(vector(paired), codes, 1 - 2 * alpha) if paired else None


def _speed(load: LoadReport | None) -> dict[str, float | None]:
    """Columns of a load; None each where there was none."""
    times = load.e2e_ms if load else None
    return {
        "tokens_per_s": load.output_tokens_per_s if load else None,
        "p50_ms": times.p50 if times else None,
        "p95_ms": times.p95 if times else None,
    }


@stage("models/quantizing", "evaluation/intervals.py", "tasks/choosing.py")
def choose(
    releases: dict[Precision, Release],
    scores: dict[Precision, ArtifactRef],
    loads: dict[Precision, ArtifactRef],
    cases: ArtifactRef,
    splits: list[str],
    spec: QuantSpec,
) -> StageResult:
    """Every precision beside bf16 on the same cases, and the rule's choice (`params["precision"]`)."""
    clusters = clusters_of(cases_of(cases, splits))
    quality = {name: case_values(scores_of(ref), QUALITY) for name, ref in scores.items()}
    rows, measured = [], []
    for name, release in releases.items():
        difference = None if name == "bf16" else _difference(quality[name], quality["bf16"], clusters, spec.alpha)
        load = load_of(loads[name])
        item = Measured(
            precision=name,
            bytes_on_disk=bytes_on_disk(release.model),
            quality=float(vector(quality[name]).mean()),
            lower_bound=difference.low if difference else None,
            tokens_per_second=load.output_tokens_per_s,
        )
        measured.append(item)
        rows.append(
            {
                "precision": name,
                "bytes_on_disk": item.bytes_on_disk,
                **_speed(load),
                "quality": item.quality,
                "difference": difference.model_dump(mode="json") if difference else None,
            }
        )
    choice = choose_precision(measured, spec)
    with artifact_store().writing("precision-report") as draft:
        write_atomic(draft.folder / "precision.json", canonical_json({"rows": rows, "reasons": choice.reasons}))
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(rows),
        total=len(rows),
        params={"precision": choice.precision},
        table=rows,
        notes=[f"**{choice.precision}**", *(f"- {reason}" for reason in choice.reasons)],
    )


RULE = ("precision", "precision_plots", "plots", "rules", "intervals", "statistics")
"""Modules of evaluation/ that decide the recommendation and draw it."""


@stage(*(f"evaluation/{name}.py" for name in RULE), "models/quantizing", "tasks/choosing.py")
def recommend_precision(
    weights: dict[Precision, Weights],
    scores: dict[Precision, ArtifactRef],
    loads: dict[Precision, ArtifactRef],
    failures: dict[Precision, str],
    cases: ArtifactRef,
    splits: list[str],
    spec: QuantSpec,
    price: CostSpec,
) -> StageResult:
    """The whole sweep in one table, its pictures, and what the rule recommends (`params`)."""
    asked = cases_of(cases, splits)
    clusters, tags = clusters_of(asked), {case.id: case.tags for case in asked}
    quality = {name: case_values(scores_of(ref), QUALITY) for name, ref in scores.items()}
    reports = {name: load_of(ref) for name, ref in loads.items()}
    tried = [
        Tried(
            precision=name,
            bytes_on_disk=weights[name].bytes_on_disk,
            cost_per_good_answer=_cost_per_good(reports.get(name), quality[name], price),
            quality=quality[name],
        )
        for name in quality
    ]
    tried += [Tried(precision=name, failure=failure) for name, failure in failures.items()]
    advised = recommend(tried, tags, clusters, spec)
    rows = [_row(item, advised, weights, reports, quality["bf16"], clusters, spec) for item in tried]
    with artifact_store().writing("precision-report") as draft:
        told = {"rows": rows, "recommendation": advised.model_dump(mode="json"), "currency": price.currency}
        write_atomic(draft.folder / "precision.json", canonical_json(told))
        write_atomic(draft.folder / "precision-quality.svg", quality_picture(rows, spec.margin))
        write_atomic(draft.folder / "precision-speed.svg", speed_picture(rows))
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(rows),
        total=len(rows),
        metrics={f"quality/{row['precision']}": row["quality"] for row in rows if row["quality"] is not None},
        params={"decision": advised.decision, "precision": advised.precision},
        table=rows,
        notes=[f"**{advised.decision}: {advised.advice}**", *_lines(advised)],
    )


def _cost_per_good(load: LoadReport | None, quality: Mapping[str, float], price: CostSpec) -> float | None:
    """Machine time of the load at its price, by the answers that are right as often as the cases say."""
    done = load.e2e_ms.n if load and load.e2e_ms else 0
    right = float(vector(quality).mean()) * done
    return cost(price, load.seconds, done, 0).total / right if load and right else None


def _row(
    item: Tried,
    advised: Recommendation,
    weights: Mapping[Precision, Weights],
    reports: Mapping[Precision, LoadReport],
    base: Mapping[str, float],
    clusters: Mapping[str, str],
    spec: QuantSpec,
) -> dict[str, Any]:
    """One line of the table. What an engine without the kernel shows of speed is not told."""
    name = item.precision
    finding = next((finding for finding in advised.findings if finding.precision == name), None)
    taken = weights[name].model_dump() if name in weights else dict.fromkeys(Weights.model_fields)
    difference = _difference(item.quality, base, clusters, spec.alpha) if name != "bf16" else None
    note = f"not served: {item.failure}" if item.failure else "" if is_served(name) else "quality only"
    return {
        "precision": name,
        "bits": bits(name),
        **taken,
        **_speed(reports.get(name)),
        "cost_per_good_answer": item.cost_per_good_answer,
        "quality": float(vector(item.quality).mean()) if item.quality else None,
        "difference": difference.model_dump(mode="json") if difference else None,
        "decision": finding.decision if finding else None,
        "note": note,
    }


def _lines(advised: Recommendation) -> list[str]:
    return [f"- {finding.precision}: {finding.decision}, {finding.told}" for finding in advised.findings]
