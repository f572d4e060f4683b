"""Rerankers: candidates of the first stage scored anew against the question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from indexes.tokens import TokenEmbedder, TokenVectors
from infra.settings import Spec
from infra.store import code_version, value_digest


class RerankSpec(Spec):
    """Whether and how candidates are ranked anew."""

    kind: Literal["late-interaction", "cross-encoder"] = "late-interaction"
    """Stored token vectors of the index's own encoder (milliseconds), or a model that reads question and text
    together (a forward pass a candidate)."""
    model: str = ""
    """Cross-encoder: a folder or a Hugging Face id. Late interaction: empty."""
    revision: str = ""
    """Commit of a Hugging Face id; empty = the newest."""
    candidates: int = Field(50, ge=1, le=1000)
    """Best passages of the first stage that are scored; what lies below them keeps its place."""
    weight: float | None = Field(None, gt=0)
    """Weight of the reranker's ranking, fused by reciprocal rank with the first stage's, whose weight is 1; none: the
    reranker's order alone decides."""


class Reranker(Protocol):
    """Port: scores of candidates. `version` changes whenever the scores would."""

    version: str

    def scores(self, question: str, rows: Sequence[int], texts: Sequence[str]) -> NDArray[np.float32]:
        """One score a candidate, higher is better; its row in the index and its text are given."""
        ...


class LateInteraction:
    """Reranker by MaxSim over the token vectors that the index's encoder made when the passages were embedded."""

    def __init__(self, tokens: TokenVectors, embedder: TokenEmbedder) -> None:
        self.version = value_digest([embedder.version, code_version("indexes/rerankers.py", "indexes/tokens.py")])[:32]
        self._tokens = tokens
        self._embedder = embedder

    @classmethod
    def open(cls, folder: Path, embedder: TokenEmbedder) -> "LateInteraction":
        """Over the token vectors in `folder`; errors as of TokenVectors.open."""
        return cls(TokenVectors.open(folder, embedder), embedder)

    def scores(self, question: str, rows: Sequence[int], texts: Sequence[str]) -> NDArray[np.float32]:
        """See Reranker; between -1 and 1. The texts are not read."""
        return self._tokens.max_sim(self._embedder.query_tokens(question), rows)
