"""Fake of the embedder port for unit tests: hashed words, no model."""

import hashlib
from collections.abc import Sequence

import numpy as np

from indexes.lexical import words
from indexes.types import Vectors


class HashingEmbedder:
    """Unit vectors of hashed word counts; counts the texts that it embeds."""

    def __init__(self, dimension: int = 64, version: str = "hashing-1") -> None:
        self.dimension = dimension
        self.version = version
        self.embedded = 0

    def passages(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        self.embedded += len(texts)
        return np.stack([self.query(text) for text in texts])

    def passages_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[Vectors]]:
        """See TokenEmbedder: the vectors of the words."""
        return self.passages(texts), [self.query_tokens(text) for text in texts]

    def query_tokens(self, text: str) -> Vectors:
        """See TokenEmbedder."""
        return np.stack([self.query(word) for word in words(text) or [""]])

    def query(self, text: str) -> Vectors:
        """See Embedder."""
        vector = np.full(self.dimension, 1e-3, np.float32)
        for word in words(text):
            vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % self.dimension] += 1
        unit: Vectors = vector / np.linalg.norm(vector)
        return unit
