"""Figures of a stage while it runs: a task reports them, whoever started the stage says where they go.

They are no input of the stage, so that its key does not change with where it is watched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Live = Callable[[int, dict[str, float]], None]
"""Takes a step and its figures by name."""

_LIVE: ContextVar[Live | None] = ContextVar("live", default=None)


@contextmanager
def watched_by(live: Live) -> Iterator[None]:
    """Inside the block the figures that tasks report go to `live`."""
    token = _LIVE.set(live)
    try:
        yield
    finally:
        _LIVE.reset(token)


def report_live(step: int, figures: dict[str, float]) -> None:
    """Report the figures of a step; nowhere where nobody watches."""
    live = _LIVE.get()
    if live is not None:
        live(step, figures)
