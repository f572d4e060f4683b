"""The exporter as a process of its own: beside the gateway, never in it; with its figures on `/metrics`."""

import argparse
import fcntl
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from infra.errors import SetupError, SluiceError, TryAgainError
from infra.logs import log_in_lines
from infra.records import Records
from infra.settings import be_quiet, policy, settings
from models.tracing.exporter import Exporter, open_sink
from models.tracing.spec import TraceSpec

LOG = logging.getLogger("sluice.exporter")
LOOK_S = 1.0
"""Time between two looks at records in which nothing waited."""
RETRY_S = 5.0
"""Time between two tries while the sink is away."""


@contextmanager
def exporting_alone(home: Path) -> Iterator[bool]:
    """Whether this process may export now: two at once would send traces twice. A killed one frees it."""
    path = home / "run" / "exporter.alone"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Metrics:
    """The exporter's figures for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.waiting = Gauge("sluice_export_waiting", "Traces and ratings not exported yet", ["kind"], registry=own)
        self.left_out = Gauge("sluice_export_left_out", "Kept traces that the export passed over", registry=own)
        self.sent = Gauge("sluice_export_sent", "Traces sent since the start", registry=own)
        self.rated = Gauge("sluice_export_rated", "Ratings sent since the start", registry=own)
        self.refused = Gauge("sluice_export_refused", "What the sink refused since the start", registry=own)
        self.failures = Counter("sluice_export_failures", "Tries that found the sink or the records away", registry=own)

    def show(self, exporter: Exporter) -> None:
        """Bring them up to date."""
        state = exporter.state()
        for kind in ("urgent", "ordinary", "ratings"):
            self.waiting.labels(kind).set(getattr(state, kind))
        self.left_out.set(state.left_out)
        self.sent.set(exporter.sent)
        self.rated.set(exporter.rated)
        self.refused.set(exporter.refused)


def export_until(stop: threading.Event, exporter: Exporter, metrics: Metrics) -> None:
    """Export what waits and what comes until `stop` is set. A sink that is away is tried again."""
    away = False
    while not stop.is_set():
        try:
            while not stop.is_set() and exporter.step():
                metrics.show(exporter)
            metrics.show(exporter)
            pause, away = LOOK_S, False
        except TryAgainError as error:
            metrics.failures.inc()
            if not away:
                LOG.warning("traces wait for export: %s", error)
            pause, away = RETRY_S, True
        stop.wait(pause)


def serve(host: str, port: int) -> None:
    """Export until SIGTERM or SIGINT. Raises: SetupError where the port is taken or another process exports."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    records = Records.open(settings().database_url)
    sink, metrics = open_sink(settings()), Metrics()
    with exporting_alone(settings().home) as alone:
        if not alone:
            raise SetupError(f"{settings().home}: another process exports its traces; stop it first")
        try:
            server, answering = start_http_server(port, host, metrics.registry)
        except OSError as error:
            raise SetupError(
                f"exporter: {host}:{port}: {error.strerror}; free it or set SLUICE_EXPORTER_PORT"
            ) from error
        export_until(stop, Exporter(records, sink, policy().section("traces", TraceSpec)), metrics)
        server.shutdown()
        answering.join()
    sink.close()
    records.close()


def main() -> int:
    """Command line of the process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="models.tracing.process", description=__doc__)
    parser.add_argument("--host", default=settings().host)
    parser.add_argument("--port", type=int, default=settings().exporter_port)
    given = parser.parse_args()
    log_in_lines(logging.WARNING)
    be_quiet()
    try:
        serve(given.host, given.port)
    except SluiceError as error:
        LOG.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
