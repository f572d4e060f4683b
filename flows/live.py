"""The MLflow run of a stage while it works: opened at its first figure, filled every few seconds."""

import time

from infra.telemetry import Tracker

STATUS = "sluice.status"
EVERY_S = 3.0
"""Seconds between two calls to MLflow: one a step would cost more than a small step itself."""


class LiveRun:
    """Takes the figures of one stage. `run` is its MLflow run once there are some, otherwise empty."""

    def __init__(self, tracker: Tracker, parent: str, name: str, started: float) -> None:
        self.tracker, self.parent, self.name, self.started = tracker, parent, name, started
        self.run = ""
        self.seen: set[tuple[str, int]] = set()
        """(figure, step) of what was taken."""
        self._held: list[tuple[str, int, float]] = []
        self._last = 0.0

    def take(self, step: int, figures: dict[str, float]) -> None:
        """Keep the figures of a step and send what is held when it is time."""
        self._held += [(name, step, value) for name, value in figures.items()]
        self.seen |= {(name, step) for name in figures}
        if time.monotonic() - self._last >= EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            self.tracker.points(self.opened("running"), self._held)
            self._held = []
        self._last = time.monotonic()

    def opened(self, status: str) -> str:
        """The MLflow run with this status, opened now if it was not."""
        if not self.run:
            self.run = self.tracker.start(self.name, self.parent, {STATUS: status}, started=self.started)
        elif status != "running":
            self.tracker.tag(self.run, {STATUS: status})
        return self.run
