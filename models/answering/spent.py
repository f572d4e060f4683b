"""Tokens of one request, over all that an engine was asked for it."""

from dataclasses import dataclass

from models.types import Completion, Piece


@dataclass(slots=True)
class Spent:
    """Counts as engines answer."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    finish: str = ""
    """Finish reason of the last answer."""
    engine: str = ""
    """Who wrote the last answer, as `pool:model`."""

    def add(self, done: Completion | Piece) -> None:
        """Count a whole answer, or the last pieces of one."""
        self.prompt += done.prompt_tokens
        self.completion += done.completion_tokens
        self.cached += done.cached_tokens
        self.finish = done.finish_reason or self.finish
        self.engine = done.engine or self.engine
