"""Patterns that search once: as it stands, or with the neighbours of what was found."""

from dataclasses import dataclass

from models.answering.patterns.port import Retrieved, Search


@dataclass(frozen=True, slots=True)
class Naive:
    """One search with the question. In an index with parents or windows it is those that come back."""

    search: Search

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        return Retrieved(await self.search(question, access))


@dataclass(frozen=True, slots=True)
class Graph:
    """One search; passages that name the same things as the best ones join the candidates (indexes/graph.py)."""

    search: Search

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        return Retrieved(await self.search(question, access, neighbours=True), steps=("neighbours",))
