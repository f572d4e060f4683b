"""Embedder behind an OpenAI-compatible server: batches by length, a request rate, waits where the server asks."""

import email.utils
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
from pydantic import Field

from indexes.types import Vectors
from infra.errors import SetupError, TryAgainError
from infra.replies import RETRYABLE, error_message, raise_for_status
from infra.settings import Spec
from infra.store import code_version, value_digest

MOST_CHARACTERS = 200_000
"""Characters of one request; servers refuse requests of too many tokens."""

_LONGEST_WAIT_S = 120.0
"""A server that asks to wait longer is given up."""

Sleep = Callable[[float], None]


class EndpointSpec(Spec):
    """A server that embeds. Its key is the setting SLUICE_EMBEDDING_API_KEY."""

    url: str = Field(pattern=r"^https?://")
    """Root of the server, without `/v1`."""
    requests_per_minute: float = Field(0.0, ge=0)
    """Most requests a minute; 0 = as fast as it answers."""
    attempts: int = Field(6, ge=1, le=20)
    """Tries of one request that fails on the way or with a status that says "later"."""
    timeout_s: float = Field(60.0, gt=0, le=3600)
    """Longest time of one try."""


class EndpointEmbedder:
    """Embedder through POST /v1/embeddings. What the server changes behind a model's name goes unseen by `version`.

    Errors: TryAgainError when the server stays unreachable, overloaded or failing; SetupError when it refuses the key
    or its answers are no vectors of the dimension it began with; InputError when it says that the request is wrong.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        model: str,
        passage_prompt: str = "",
        query_prompt: str = "",
        batch_size: int = 1,
        api_key: str = "",
        sleep: Sleep = time.sleep,
    ) -> None:
        """Asks the server for one vector, to learn the dimension."""
        self.spec = spec
        self.model = model
        self._prompts = (passage_prompt, query_prompt)
        self._batch_size = batch_size
        self._sleep = sleep
        self._pace = threading.Lock()
        self._next_start = 0.0
        self._client = httpx.Client(
            base_url=spec.url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=spec.timeout_s,
            trust_env=False,
        )
        self.dimension = 0
        self.dimension = self._embedded(["dimension"]).shape[1]
        parts = [spec.url, model, self._prompts, self.dimension, code_version("indexes/endpoint.py")]
        self.version = value_digest(parts)[:32]

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (n, dimension), in the order of `texts`; sent sorted by length."""
        prompted = [self._prompts[0] + text for text in texts]
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for rows in self._batches(prompted):
            vectors[rows] = self._embedded([prompted[row] for row in rows])
        return vectors

    def query(self, text: str) -> Vectors:
        """Unit vector of a question, shape (dimension,)."""
        vector: Vectors = self._embedded([self._prompts[1] + text])[0]
        return vector

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Rows of texts of similar length, at most the batch size and MOST_CHARACTERS (or one text) a batch."""
        batch: list[int] = []
        for row in sorted(range(len(texts)), key=lambda row: (len(texts[row]), texts[row])):
            is_full = len(batch) == self._batch_size or (len(batch) + 1) * len(texts[row]) > MOST_CHARACTERS
            if batch and is_full:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _embedded(self, texts: list[str]) -> Vectors:
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        for attempt in range(1, self.spec.attempts + 1):
            self._wait_for_turn()
            try:
                response = self._client.post("/v1/embeddings", json=body)
            except httpx.TransportError as error:
                failure, wait = f"{self.spec.url}: {type(error).__name__} {error}".rstrip(), 0.0
            else:
                if not self._says_later(response):
                    return self._vectors(response, len(texts))
                failure = f"{self.spec.url}: {response.status_code} {error_message(response.content)}"
                wait = asked_wait(response.headers.get("Retry-After", ""))
            if attempt == self.spec.attempts or wait > _LONGEST_WAIT_S:
                break
            backoff = random.uniform(0.5, 1.0) * min(2.0 ** (attempt - 1), 30.0)  # noqa: S311 - spreads callers out
            self._sleep(max(wait, backoff))
        raise TryAgainError(f"{failure}; given up after {attempt} of {self.spec.attempts} attempts")

    def _wait_for_turn(self) -> None:
        """Wait until the request rate allows the next request."""
        if not self.spec.requests_per_minute:
            return
        with self._pace:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + 60 / self.spec.requests_per_minute
        if start > now:
            self._sleep(start - now)

    def _says_later(self, response: httpx.Response) -> bool:
        """Whether the same request may work later. Raises for the other errors."""
        status = response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            said = error_message(response.content)
            raise SetupError(f"{self.spec.url}: {status} {said}; set SLUICE_EMBEDDING_API_KEY to a key of this server")
        if status >= 500 or status in RETRYABLE:
            return True
        raise_for_status(status, response.content, self.spec.url)
        return False

    def _vectors(self, response: httpx.Response, count: int) -> Vectors:
        """The answer's vectors in the order of the texts, in unit length."""
        try:
            rows: list[Any] = sorted(response.json()["data"], key=lambda row: row["index"])
            table = np.array([row["embedding"] for row in rows], np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise SetupError(f"{self.spec.url}: the answer is none of an embedding server: {error!r}") from error
        if table.ndim != 2 or [row["index"] for row in rows] != list(range(count)):
            raise SetupError(f"{self.spec.url}: {len(rows)} vectors, shape {table.shape}, for {count} texts")
        if self.dimension and table.shape[1] != self.dimension:
            raise SetupError(
                f"{self.spec.url}: {self.model} now gives {table.shape[1]} numbers a vector and gave {self.dimension} "
                "before: another model took its name"
            )
        norms = np.linalg.norm(table, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            raise SetupError(f"{self.spec.url}: {self.model} gave a vector of no direction (zero or not a number)")
        unit: Vectors = table / norms
        return unit


def asked_wait(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for (a number or an HTTP date, RFC 9110); 0 for none or nonsense."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        date = email.utils.parsedate_tz(retry_after)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else 0.0
