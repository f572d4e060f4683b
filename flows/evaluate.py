"""Flow: candidate and production asked the same gate cases and scored by the same scorers."""

from prefect import flow

from flows.bundling import measure
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.quantize import quantize_stages
from flows.recording import Recording, Summary, recording
from models.release import Release
from tasks.releasing import production_release

GATE = ["gate"]


def evaluate_stages(run: Recording, candidate: Release, production: Release | None) -> None:
    """Ask and score the gate cases with both releases."""
    measure(run, "candidate", candidate, GATE)
    if production is not None:
        measure(run, "production", production, GATE)


@flow(name="evaluate", description="Answer and score the gate cases with the candidate and with production.")
def evaluate(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """Scores of both releases on the gate cases."""
    with recording("evaluate", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        evaluate_stages(run, quantize_stages(run), production_release())
        return run.summary()
