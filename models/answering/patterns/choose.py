"""From a pattern's name to the strategy."""

from collections.abc import Callable

from indexes.hybrid import HybridRetriever, PatternName, RetrievalSpec
from indexes.retriever import Retriever
from infra.errors import PolicyError
from models.answering.patterns.correcting import Corrective
from models.answering.patterns.filtering import SelfQuery
from models.answering.patterns.listwise import Listwise
from models.answering.patterns.lookup import Asking, Writer
from models.answering.patterns.plain import Graph, Naive
from models.answering.patterns.port import Pattern, Search
from models.answering.patterns.rewriting import Hyde, MultiQuery
from models.answering.patterns.spec import PatternSpec
from models.answering.patterns.stepping import Agentic

_STRATEGIES: dict[PatternName, Callable[[Asking], Pattern]] = {
    "naive": lambda asking: Naive(asking.search),
    "sentence-window": lambda asking: Naive(asking.search),
    "parent-child": lambda asking: Naive(asking.search),
    "graph": lambda asking: Graph(asking.search),
    "hyde": Hyde,
    "multi-query": MultiQuery,
    "self-query": SelfQuery,
    "corrective": Corrective,
    "agentic": Agentic,
}


def pattern_for(spec: RetrievalSpec, retriever: Retriever, patterns: PatternSpec, writer: Writer) -> Pattern:
    """The strategy that `spec` names over an index, with the reranking of `patterns` behind it.

    Raises: PolicyError where the index was not chunked as the pattern needs it.
    """
    if spec.needs_parents and isinstance(retriever, HybridRetriever) and not retriever.has_parents:
        raise PolicyError(
            f"answering.search.pattern: {spec.pattern} shows parents or windows and the index has none; "
            f"set chunking.strategy to {spec.pattern} and run the index flow again"
        )
    asking = Asking(Search(retriever, spec), writer, patterns)
    pattern = _STRATEGIES[spec.pattern](asking)
    return Listwise(pattern, asking, patterns.listwise) if patterns.listwise else pattern
