"""Flow: the engine of the candidate under load: first token, time per token, percentiles, throughput."""

from prefect import flow

from flows.bundling import load
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.quantize import quantize_stages
from flows.recording import Recording, Summary, recording
from models.release import Release


def benchmark_stages(run: Recording, candidate: Release) -> None:
    """Load the candidate's engine with the prompts of its validation answers."""
    load(run, "candidate", candidate, run.ref(f"ask-{candidate.model.precision}", "observations"), "benchmark")


@flow(name="benchmark", description="Put load on the engine of the candidate and measure latency and throughput.")
def benchmark(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """TTFT, time per token, P50/P95/P99 and tokens/s of the candidate."""
    with recording("benchmark", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        benchmark_stages(run, quantize_stages(run))
        return run.summary()
