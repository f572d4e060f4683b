"""What a vLLM engine says of itself on `/metrics` during a load; what a server does not tell is absent, not zero."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

PREEMPTIONS = "vllm:num_preemptions_total"
QUEUE_SUM = "vllm:request_queue_time_seconds_sum"
QUEUE_COUNT = "vllm:request_queue_time_seconds_count"
KV_USE = "vllm:kv_cache_usage_perc"
PREFIX_HITS = "vllm:prefix_cache_hits_total"
PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
WANTED = (PREEMPTIONS, QUEUE_SUM, QUEUE_COUNT, KV_USE, PREFIX_HITS, PREFIX_QUERIES, RUNNING, WAITING)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the metrics: name → value, summed over labels (engines, models). `at_s` after the load's begin."""

    at_s: float
    values: dict[str, float]


class EngineFigures(BaseModel):
    """The measured time as the engine saw it; None: this server does not tell it (its name stands in `absent`)."""

    model_config = ConfigDict(frozen=True)

    preemptions: float | None = None
    """Requests that lost their KV blocks to others and were computed again."""
    queue_ms: float | None = None
    """Mean time of a request in the engine's queue."""
    kv_use_peak: float | None = None
    """Largest share of the KV cache in use, of what was seen."""
    prefix_hit_share: float | None = None
    """Prompt tokens taken from the prefix cache, of those looked up."""
    running_peak: float | None = None
    waiting_peak: float | None = None
    """Most requests that ran and that waited, of what was seen."""
    samples: int = 0
    """Looks at the gauges (peaks), begin and end included."""
    absent: tuple[str, ...] = ()
    """Figures that the server's metrics do not hold."""

    def told(self) -> dict[str, float]:
        """The figures that there are."""
        values = self.model_dump(exclude={"samples", "absent"})
        return {name: float(value) for name, value in values.items() if value is not None}


def parse_metrics(text: str) -> dict[str, float]:
    """The wanted values of a Prometheus text, summed over their labels; only their lines are parsed."""
    from prometheus_client.parser import text_string_to_metric_families

    lines = [line for line in text.splitlines() if line.startswith(WANTED)]
    found: dict[str, float] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if sample.name in WANTED:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def _grown(first: Sample, last: Sample, name: str) -> float | None:
    """How much a counter rose; None where one end lacks it or the server began anew in between."""
    if name not in first.values or name not in last.values:
        return None
    rise = last.values[name] - first.values[name]
    return rise if rise >= 0 else None


def _share(top: float | None, bottom: float | None) -> float | None:
    return top / bottom if top is not None and bottom else None


def _peak(samples: Iterable[Sample], name: str) -> float | None:
    return max((sample.values[name] for sample in samples if name in sample.values), default=None)


def engine_figures(samples: Sequence[Sample]) -> EngineFigures:
    """Samples in order of time, the first before the load and the last after it."""
    if not samples:
        return EngineFigures(
            absent=tuple(name for name in EngineFigures.model_fields if name not in ("samples", "absent"))
        )
    first, last = samples[0], samples[-1]
    queued = _share(_grown(first, last, QUEUE_SUM), _grown(first, last, QUEUE_COUNT))
    found = {
        "preemptions": _grown(first, last, PREEMPTIONS),
        "queue_ms": None if queued is None else 1000 * queued,
        "kv_use_peak": _peak(samples, KV_USE),
        "prefix_hit_share": _share(_grown(first, last, PREFIX_HITS), _grown(first, last, PREFIX_QUERIES)),
        "running_peak": _peak(samples, RUNNING),
        "waiting_peak": _peak(samples, WAITING),
    }
    absent = tuple(name for name, value in found.items() if value is None)
    return EngineFigures(**found, samples=len(samples), absent=absent)
