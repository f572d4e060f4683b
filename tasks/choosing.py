"""Task that chooses the precision of a candidate from what was measured of each."""

from evaluation.intervals import difference_interval
from evaluation.metrics import case_values, vector
from evaluation.statistics import cluster_codes, clusters_of
from infra.store import ArtifactRef, canonical_json, write_atomic
from models.quantize import Measured, QuantSpec, choose_precision
from models.release import Precision, Release
from tasks.measuring import cases_of, load_of, scores_of
from tasks.policy import StageResult, artifact_store, stage

QUALITY = "answer_correct"
"""The metric that precisions are compared by."""


def _weights_bytes(release: Release) -> int:
    """Bytes of the safetensors that the engine loads for a release (base and adapter)."""
    store = artifact_store()
    parts = [release.model.base, *([release.model.adapter] if release.model.adapter else [])]
    return sum(path.stat().st_size for part in parts for path in store.open(part).rglob("*.safetensors"))


@stage("models/quantize.py", "evaluation/intervals.py", "tasks/choosing.py")
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
        mine = quality[name]
        full = quality["bf16"]
        paired = {case: value - full[case] for case, value in mine.items() if case in full}
        codes = cluster_codes(list(paired), clusters)
        difference = None if name == "bf16" else difference_interval(vector(paired), codes, 1 - 2 * spec.alpha)
        load = load_of(loads[name])
        item = Measured(
            precision=name,
            bytes_on_disk=_weights_bytes(release),
            quality=float(vector(mine).mean()),
            lower_bound=difference.low if difference else None,
            tokens_per_second=load.output_tokens_per_s,
        )
        measured.append(item)
        rows.append(
            {
                "precision": name,
                "bytes_on_disk": item.bytes_on_disk,
                "tokens_per_s": load.output_tokens_per_s,
                "p50_ms": load.e2e_ms.p50 if load.e2e_ms else None,
                "p95_ms": load.e2e_ms.p95 if load.e2e_ms else None,
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
