"""A server that is told to stop finishes what it has begun: not ready first, nothing new, then the door."""

import time
from collections.abc import Callable
from types import FrameType

import uvicorn


class DrainingServer(uvicorn.Server):
    """uvicorn, but SIGTERM and SIGINT begin a drain; the second signal ends it at once.

    While it drains it still listens, so that load balancers read that it is not ready and callers get an answer that
    says so. It stops once no request is in flight and `notice_s` have passed, after `longest_s` in any case.
    """

    def __init__(self, config: uvicorn.Config, begin: Callable[[], None], *, notice_s: float, longest_s: float) -> None:
        super().__init__(config)
        self._begin = begin
        self._notice_s = notice_s
        self._longest_s = longest_s
        self._begun_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn.Server. The signal is not raised again afterwards: the process ends with 0."""
        if self._begun_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._begun_at = time.monotonic()
        self._begin()

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn.Server."""
        if self._begun_at is not None:
            passed = time.monotonic() - self._begun_at
            is_idle = not self.server_state.tasks and passed >= self._notice_s
            self.should_exit = self.should_exit or is_idle or passed >= self._longest_s
        return await super().on_tick(counter)
