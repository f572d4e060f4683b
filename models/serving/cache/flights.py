"""One question at a time: who asks what is being answered already waits for that answer."""

import asyncio
from enum import Enum

from models.serving.cache.entries import Place


class Turn(Enum):
    """What a request is to do."""

    LEAD = "lead"
    """Answer; others wait for it. Whoever leads must land."""
    LOOK = "look"
    """Another has answered and the cache holds it."""
    ALONE = "alone"
    """Another has answered, and its answer is for nobody else: ask, and let nobody wait."""


class Flights:
    """Who works on what."""

    def __init__(self) -> None:
        self._running: dict[Place, asyncio.Future[bool | None]] = {}

    async def turn(self, place: Place) -> Turn:
        """Lead at once where nobody is at work on it, else wait until whoever leads has landed."""
        while (running := self._running.get(place)) is not None:
            kept = await asyncio.shield(running)
            if kept is not None:
                return Turn.LOOK if kept else Turn.ALONE
        self._running[place] = asyncio.get_running_loop().create_future()
        return Turn.LEAD

    def land(self, place: Place, kept: bool | None) -> None:
        """End a lead: whether the answer was kept; None when there was none, so that one of those who wait leads."""
        self._running.pop(place).set_result(kept)
