"""Port of retrievers: question → passages that the caller may see."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from indexes.filters import Filters
from indexes.types import Passage

Mode = Literal["dense", "lexical", "hybrid"]
MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


class Probe(NamedTuple):
    """A further text to search with, such as another wording of the question; its lists join the fusion."""

    text: str
    mode: Mode = "hybrid"
    weight: float = 1.0


class Retriever(Protocol):
    """Port: question → passages the caller may see."""

    def search(
        self,
        question: str,
        access: frozenset[str],
        k: int,
        mode: Mode | None = None,
        *,
        filters: Filters | None = None,
        probes: Sequence[Probe] = (),
        neighbours: bool = False,
    ) -> list[Passage]:
        """The best `k` passages, best first, whose labels and `access` have one in common and that meet `filters`.

        Without a mode they are found as the release does it, reranking included; a mode is searched with bare, for
        comparison. `probes` are searched with as well, and with `neighbours` passages that name the same things as the
        best ones join the candidates. The score is that of the list, or the fused one; `ranks` holds the place in each
        list from 1. Raises InputError for an empty question or an unknown mode.
        """
        ...
