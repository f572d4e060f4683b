"""What is noted along one request: spans and guard events."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.errors import SluiceError
from models.types import GuardEvent, Span


class Trail:
    """Spans, guard events, and the error that ended the request, in the order they came."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.events: list[GuardEvent] = []
        self.error = ""

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step; attributes put into the mapping become the span's, an error is named in it."""
        attributes: dict[str, Any] = {}
        start = time.time_ns()
        try:
            yield attributes
        except SluiceError as error:
            attributes["error"] = type(error).__name__
            self.error = f"{name}: {error}"
            raise
        finally:
            self.spans.append(Span(name=name, start_ns=start, end_ns=time.time_ns(), attributes=attributes))
