"""From a pattern's name to the strategy."""

from indexes.hybrid import HybridRetriever, RetrievalSpec
from indexes.retriever import Retriever
from infra.errors import PolicyError
from models.answering.patterns.plain import Graph, Naive
from models.answering.patterns.port import Pattern, Search


def pattern_for(spec: RetrievalSpec, retriever: Retriever) -> Pattern:
    """The strategy that `spec` names over an index.

    Raises: PolicyError where the index was not chunked as the pattern needs it.
    """
    search = Search(retriever, spec)
    if spec.pattern == "graph":
        return Graph(search)
    needs_parents = spec.pattern in ("parent-child", "sentence-window")
    if needs_parents and isinstance(retriever, HybridRetriever) and not retriever.has_parents:
        raise PolicyError(
            f"answering.search.pattern: {spec.pattern} shows parents or windows and the index has none; "
            f"set chunking.strategy to {spec.pattern} and run the index flow again"
        )
    return Naive(search)
