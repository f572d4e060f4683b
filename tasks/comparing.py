"""Task that sets the answers of several releases beside those of one."""

from evaluation.contrast import contrast, contrast_picture
from infra.store import ArtifactRef, canonical_json, write_atomic
from tasks.measuring import cases_of, scores_of
from tasks.policy import StageResult, artifact_store, stage


@stage("evaluation/contrast.py", "evaluation/comparison.py", "evaluation/intervals.py", "tasks/comparing.py")
def compare_releases(
    scores: dict[str, ArtifactRef], against: str, cases: ArtifactRef, splits: list[str]
) -> StageResult:
    """Paired differences of each release's answers to those of `against`, as a table and a picture."""
    asked = cases_of(cases, splits)
    rows = contrast({name: scores_of(ref) for name, ref in scores.items()}, against, asked)
    with artifact_store().writing("comparison") as draft:
        write_atomic(draft.folder / "comparison.json", canonical_json(rows))
        write_atomic(draft.folder / "comparison.svg", contrast_picture(rows))
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(asked),
        total=len(asked),
        metrics={f"{row['release']}_{row['metric']}": row["mean_b"] for row in rows},
        table=rows,
        notes=[f"{len(asked)} cases of {', '.join(splits)}; b is the release, a is {against}."],
    )
