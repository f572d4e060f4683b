"""When a load need not be waited out: its queue grows without end, or, in a search, the SLO is out of reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.load import LoadSpec, RequestTiming

LOOKS = 6
"""Looks at a run before anything is said about its course."""
KEEPS_UP = 0.9
"""Completions by arrivals below which the engine does not keep up."""
LEAST = 20
"""Requests that a step ends with at least, so that its percentiles mean something."""


@dataclass(frozen=True, slots=True)
class Look:
    """A run at one moment: seconds since its begin, requests sent and ended so far."""

    at_s: float
    sent: int
    ended: int

    @property
    def backlog(self) -> int:
        """Requests in flight, here or in the engine's queue."""
        return self.sent - self.ended


def is_over_saturated(looks: Sequence[Look], latency_s: float) -> bool:
    """Whether an open loop's queue grows without end: arrivals are lost ground to, beyond what chance does.

    Over the second half of the looks: completions below `KEEPS_UP` of the arrivals, and the backlog grown by more
    than three standard deviations of the arrivals (Poisson: √n). The half must last longer than `latency_s`, the
    typical time of the requests that ended: a queue that only fills up at the begin looks the same.
    """
    if len(looks) < LOOKS:
        return False
    middle, last = looks[len(looks) // 2], looks[-1]
    arrived, ended = last.sent - middle.sent, last.ended - middle.ended
    if not arrived or last.at_s - middle.at_s <= latency_s:
        return False
    grown = last.backlog - middle.backlog
    return ended < KEEPS_UP * arrived and grown > 3 * math.sqrt(arrived)


def is_hopeless(timings: Sequence[RequestTiming], spec: LoadSpec) -> bool:
    """Whether so many requests missed the SLO that the rest cannot make up for it, after at least `LEAST`."""
    if spec.slo is None or len(timings) < LEAST:
        return False
    bad = sum(not timing.is_good(spec.slo) for timing in timings)
    return bad > (1 - spec.slo.share) * spec.requests + 1e-9


def saturation(looks: Sequence[Look], timings: Sequence[RequestTiming], spec: LoadSpec) -> str:
    """Why to stop an open loop now: its latencies would only tell how long it went on; empty: go on."""
    if spec.mode == "closed" or not timings:
        return ""
    latencies = sorted(timing.total_s for timing in timings)
    if not is_over_saturated(looks, latencies[len(latencies) // 2]):
        return ""
    last = looks[-1]
    return f"over-saturated: after {last.at_s:.1f} s {last.sent} had arrived and {last.ended} were answered"


def stop_reason(looks: Sequence[Look], timings: Sequence[RequestTiming], spec: LoadSpec) -> str:
    """Why to stop a step of a search now; empty: go on."""
    if told := saturation(looks, timings, spec):
        return told
    if is_hopeless(timings, spec):
        return f"out of the SLO: too many of the first {len(timings)} requests missed it"
    return ""
