"""The scorer: a small frozen dataclass that turns one observation into one score and never crashes the evaluation."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from evaluation.types import Observation, Score
from infra.store import value_digest

logger = logging.getLogger(__name__)

Measurement = tuple[float | None, str]
"""Value (None: does not apply) and the reason for it."""


class Scorer(ABC):
    """Base of scorers. Subclasses are frozen dataclasses with `name`, `version` and `measure`."""

    name: str
    version: str

    @abstractmethod
    def measure(self, observation: Observation) -> Measurement:
        """The value with its reason. May raise: `score` turns that into an error."""

    @property
    def identity(self) -> str:
        """Name and version, as kept in every score."""
        return f"{self.name}@{self.version}"

    def score(self, observation: Observation) -> Score:
        """The score of one observation; a crash becomes `Score(value=None, error=...)`, never a zero."""
        case = observation.case.id
        try:
            value, reason = self.measure(observation)
        except Exception as error:
            logger.exception("scorer %s failed on case %s", self.identity, case)
            text = f"{type(error).__name__}: {error}"
            return Score(case=case, metric=self.name, value=None, reason="failed", scorer=self.identity, error=text)
        return Score(case=case, metric=self.name, value=value, reason=reason, scorer=self.identity)


def score_all(observations: Sequence[Observation], scorers: Iterable[Scorer]) -> list[Score]:
    """Every scorer on every observation, ordered by observation and then as `scorers` are."""
    wanted = tuple(scorers)
    return [scorer.score(observation) for observation in observations for scorer in wanted]


def judge_version(scorers: Iterable[Scorer | type[Scorer]]) -> str:
    """Digest over names and versions, in any order: what a release records as its judge."""
    return value_digest(sorted((scorer.name, scorer.version) for scorer in scorers))
