"""One request on its way through the gateway: what was asked by whom, that it has begun, how it ended."""

import hashlib
import math
import time
from dataclasses import dataclass, field

from infra.records import ApiKey
from models.answering.chat import Talk
from models.serving.traffic import Assignment
from models.types import Answer


@dataclass(slots=True)
class Usage:
    """What a request has taken so far; the limits of its key are settled by it."""

    begun: bool = False
    """An engine may have worked for it: what was reserved stays counted until the figures are known."""
    known: bool = False
    tokens: int = 0
    cost: float = 0.0

    def add(self, answer: Answer) -> None:
        """Count an answer that was made for this request."""
        self.known = True
        self.tokens += answer.prompt_tokens + answer.completion_tokens
        self.cost += answer.cost


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the gateway took it."""

    question: str
    caller: ApiKey
    session: str | None = None
    """What keeps a user in one arm of a canary; the key does where it is missing."""
    release: str = ""
    """The release that an operator forces."""
    request_key: str = ""
    """Makes a repetition harmless."""
    body_digest: str = ""
    """Set with a caller's idempotency key: another body under the same key is an error, and a failed answer is made
    again. Empty with an operator's request key, which the canary's replay goes by."""
    deadline: float = math.inf
    """When the caller stops waiting, by `time.monotonic()`."""
    usage: Usage = field(default_factory=Usage, compare=False)
    """Where the answer's tokens and cost are counted."""
    talk: Talk | None = None
    """The whole conversation, where the model answers it without passages."""
    stream: bool = False
    """Text is sent while it is written. Otherwise the guards see all of an answer before any of it leaves."""

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def unit(self) -> str:
        """What the split of a canary goes by."""
        return self.session or self.caller.digest

    @property
    def session_digest(self) -> str:
        """What the records keep of the unit."""
        return hashlib.sha256(self.unit.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Begun:
    """A request has its place and its release; its text follows."""

    assignment: Assignment
    trace_id: str
    cache: str = ""
    """What the look-up found: hit-exact, hit-semantic or miss; empty where there was none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended."""

    answer: Answer
    assignment: Assignment
    cache: str = ""
    """See Begun."""
