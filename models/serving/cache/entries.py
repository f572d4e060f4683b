"""An answer as the cache keeps it, and the place where it lies: only the same question and rights lead there."""

import dataclasses
from typing import NamedTuple

from infra.settings import Spec
from infra.store import canonical_json, text_digest
from models.serving.asks import Ask
from models.serving.traffic import Assignment
from models.types import Answer, Citation

HARMLESS = frozenset(
    {"question", "caller", "session", "release", "request_key", "body_digest", "deadline", "usage", "stream"}
)
"""Fields of an Ask that do not change the answer, or that stand in the key by a part of their own."""


class Place(NamedTuple):
    """Where an answer lies. Both parts are digests: neither tenant nor label nor question can be read from them."""

    scope: str
    """Everything but the question: release, tenant, access labels, arm, and what else the request asks for."""
    name: str
    """The question."""


def place_of(asked: Ask, assignment: Assignment, question: str) -> Place:
    """The place of a question's answer. Session and request key have no part in it; every other field has.

    While a canary runs each arm has answers of its own: both begin with none, so that their times can be compared.
    """
    rest = {
        field.name: repr(getattr(asked, field.name))
        for field in dataclasses.fields(asked)
        if field.name not in HARMLESS
    }
    scope = {
        "release": assignment.release,
        "tenant": asked.caller.tenant,
        "access": sorted(set(asked.caller.access)),
        "arm": [assignment.rollout, assignment.arm] if assignment.rollout else [],
        "asked": rest,
    }
    return Place(text_digest(canonical_json(scope)), text_digest(" ".join(question.split())))


class Entry(Spec):
    """A kept answer. It names its place, so that a value that lies in a wrong one is known and never given."""

    scope: str
    name: str
    created: float
    """Seconds since the epoch."""
    origin: str
    """Trace id of the request that it was made for."""
    question: str
    vector: str = ""
    """The question's unit vector, float16 in base64; empty where the semantic cache is off."""
    answer: str
    refused: bool
    release: str
    path: str
    engine: str
    cited: tuple[int, ...]
    passages: tuple[Citation, ...]
    retrieved: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that it counts for: about what it takes as JSON."""
        texts = sum(len(one.text) + len(one.title) + len(one.document) + len(one.chunk) + 80 for one in self.passages)
        return 600 + texts + sum(map(len, (self.question, self.vector, self.answer, *self.retrieved)))


def entry_of(answer: Answer, place: Place, created: float, vector: str = "") -> Entry:
    """The answer as it is kept."""
    return Entry(
        scope=place.scope,
        name=place.name,
        created=created,
        origin=answer.trace_id,
        question=answer.question,
        vector=vector,
        answer=answer.answer,
        refused=answer.refused,
        release=answer.release,
        path=answer.path,
        engine=answer.engine,
        cited=tuple(citation.number for citation in answer.citations),
        passages=answer.passages,
        retrieved=answer.retrieved,
    )
