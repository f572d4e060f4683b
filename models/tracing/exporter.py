"""Moves traces and ratings from the records to a sink: the urgent ones first, then the others or a sample of them."""

import logging
from collections.abc import Sequence

from infra.errors import InputError
from infra.otlp import Collector, MlflowSink, Sink, parse_headers
from infra.records import ExportState, Records, Trace
from infra.settings import Settings
from infra.telemetry import EXPERIMENT
from models.tracing.mapping import exported, rating_of
from models.tracing.spec import TraceSpec

LOG = logging.getLogger("sluice.exporter")
SIFTED = 5000
"""Traces that are looked at in one step when only a sample can be exported."""


def open_sink(settings: Settings) -> Sink:
    """The sink that the settings name: a collector, or MLflow where there is none."""
    if settings.otlp_url:
        return Collector(settings.otlp_url, parse_headers(settings.otlp_headers.get_secret_value()))
    return MlflowSink(settings.mlflow_address, EXPERIMENT)


def is_sampled(trace_id: str, share: float) -> bool:
    """Whether a trace is in a sample of this share: the same every time, those of a smaller one with them."""
    return int(trace_id[:8], 16) < share * 2**32


def to_leave_out(ids: Sequence[str], waiting: int, spec: TraceSpec) -> list[str]:
    """Which of the oldest ordinary traces are not exported, when `waiting` of them wait."""
    if spec.most_waiting is None:
        return []
    excess = max(0, waiting - spec.most_waiting)
    return [trace_id for trace_id in ids if not is_sampled(trace_id, spec.sample)][:excess]


class Exporter:
    """One pass after another over what waits. Not for two processes at once: both would send the same."""

    def __init__(self, records: Records, sink: Sink, spec: TraceSpec) -> None:
        self._records = records
        self._sink = sink
        self._spec = spec
        self._sifted = 0
        """Number of the newest trace that was looked at for the sample."""
        self.sent = 0
        self.rated = 0
        self.refused = 0

    def state(self) -> ExportState:
        """What waits and what was left out."""
        return self._records.export_state()

    def run(self) -> int:
        """Export until nothing waits; how many traces were sent. Raises: TryAgainError when the sink is away."""
        before = self.sent
        while self.step():
            pass
        return self.sent - before

    def step(self) -> bool:
        """Send one batch, and leave out what is too much; whether there was something to do.

        Raises: TryAgainError when sink or records are away; what was not sent waits.
        """
        self._sift()
        rows = self._records.unexported(self._spec.export_batch)
        if rows:
            self._send(rows)
        ratings = self._records.unexported_ratings(self._spec.export_batch)
        for rating in ratings:
            try:
                self._sink.rate(rating_of(rating))
                self.rated += 1
            except InputError as error:
                LOG.error("rating %d is left out: %s", rating.id, error)
                self.refused += 1
            self._records.mark_ratings_exported([rating.id])
        return bool(rows or ratings)

    def _sift(self) -> None:
        """Leave out ordinary traces, the oldest first, while more wait than the policy allows."""
        if self._spec.most_waiting is None:
            return
        while (waiting := self.state().ordinary) > self._spec.most_waiting:
            found = self._records.ordinary_unexported(self._sifted, SIFTED)
            if not found:
                return
            left = to_leave_out([trace_id for _, trace_id in found], waiting, self._spec)
            if left:
                self._records.mark_exported(left, left_out=True)
            self._sifted = found[-1][0]

    def _send(self, rows: Sequence[Trace]) -> None:
        """Send a batch; where the sink refuses it, each trace alone, so that one cannot hold up the others."""
        try:
            self._sink.send([exported(row) for row in rows])
        except InputError as error:
            if len(rows) > 1:
                for row in rows:
                    self._send([row])
                return
            LOG.error("trace %s is left out: %s", rows[0].trace_id, error)
            self.refused += 1
            self._records.mark_exported([rows[0].trace_id], left_out=True)
            return
        self._records.mark_exported([row.trace_id for row in rows])
        self.sent += len(rows)
