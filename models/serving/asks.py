"""One request on its way through the gateway: what was asked by whom, that it has begun, how it ended."""

import hashlib
from dataclasses import dataclass

from infra.records import ApiKey
from models.serving.traffic import Assignment
from models.types import Answer


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
