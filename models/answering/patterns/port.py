"""Port of retrieval patterns: how one question becomes the passages that are handed on."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indexes.filters import Filters
from indexes.hybrid import RetrievalSpec
from indexes.retriever import Probe, Retriever
from indexes.types import Passage


class Retrieved(NamedTuple):
    """Passages, best first, and what finding them took."""

    passages: list[Passage]
    searches: int = 1
    """Searches in the index."""
    prompt_tokens: int = 0
    """Tokens that the model read on the way."""
    completion_tokens: int = 0
    """Tokens that the model wrote on the way."""
    steps: tuple[str, ...] = ()
    """What was done, for the trace: names of steps, never the text of a question or passage."""


class Pattern(Protocol):
    """One strategy. It sees nothing that `access` does not open, and neither does a model that it asks."""

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """The passages for a question. Raises SluiceError when the index fails."""
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """The search of a release as patterns call it: in a thread, since it computes for milliseconds."""

    retriever: Retriever
    spec: RetrievalSpec

    async def __call__(
        self,
        question: str,
        access: frozenset[str],
        *,
        k: int | None = None,
        filters: Filters | None = None,
        probes: Sequence[Probe] = (),
        neighbours: bool = False,
    ) -> list[Passage]:
        """See Retriever; `k` is the release's unless given."""
        return await asyncio.to_thread(
            self.retriever.search,
            question,
            access,
            k or self.spec.k,
            filters=filters,
            probes=probes,
            neighbours=neighbours,
        )
