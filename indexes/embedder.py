"""Text → unit vectors: sentence-transformers with the embedded MiniLM as default, and a verified cache of vectors."""

import importlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from indexes.cache import EmbeddingCache
from indexes.endpoint import EndpointEmbedder, EndpointSpec
from indexes.parallel import ParallelEmbedder
from indexes.types import Chunk, Embedder, Vectors
from indexes.weights import EMBEDDED, model_folder
from infra.errors import SetupError
from infra.settings import Spec, settings
from infra.store import code_version, folder_manifest, text_digest, value_digest

SAVE_EVERY = 32
"""Vectors between two writes to the cache, unless a batch is larger: what a killed run loses at most."""

_QUESTIONS = 1024
"""Questions of which vector and token vectors are kept, so that the second to be asked for costs nothing."""


class EmbedSpec(Spec):
    """Which encoder is used and how."""

    model: str = EMBEDDED
    """`minilm` (comes with the project), a folder, a Hugging Face id, or a name that `endpoint` knows."""
    revision: str = ""
    """Commit of a Hugging Face id; empty = the newest."""
    device: str = "cpu"
    """Torch device."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number type of the encoder's weights."""
    batch_size: int = Field(1, ge=1)
    """Texts a step. With 1 a vector does not depend on what else is embedded, so an interrupted and repeated run
    gives the same bytes; larger batches are for GPUs."""
    passage_prompt: str = ""
    """Put before every passage (some encoders want it)."""
    query_prompt: str = ""
    """Put before every question."""
    threads: int = Field(1, ge=1)
    """Compute threads of the encoder on a CPU."""
    processes: int = Field(1, ge=1, le=256)
    """Processes that embed passages beside each other, each with an encoder of its own in memory and `threads`
    threads: for machines with many cores. The vectors do not depend on it."""
    endpoint: EndpointSpec | None = None
    """A server that embeds in this process's stead; `revision`, `device`, `dtype`, `threads` and `processes` then mean
    nothing."""

    @property
    def at_once(self) -> int:
        """Texts between two writes to the cache: whole batches, and few enough to lose little when a run is killed."""
        return self.batch_size * -(-SAVE_EVERY * self.processes // self.batch_size)


class SentenceTransformerEmbedder:
    """Embedder through sentence-transformers. Loads safetensors only and runs no code of a model's repository."""

    def __init__(self, spec: EmbedSpec, root: Path) -> None:
        """`root` is the folder that a relative model folder is relative to (the policy file's)."""
        self.spec = spec
        self._lock = threading.Lock()
        folder = model_folder(spec.model, spec.revision, root, "embedder.model")
        self._model = _load(folder, spec)
        self.dimension = int(self._model.get_embedding_dimension())
        computing = spec.model_dump(include={"dtype", "passage_prompt", "query_prompt"})
        parts = [folder_manifest("embedder", folder), computing, code_version("indexes/embedder.py")]
        self.version = value_digest(parts)[:32]
        tokenizer = self._model.tokenizer
        marks = (getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos"))
        self._marks = sorted({mark for mark in marks if mark is not None})
        self._tokenwise = self._model.transformers_model is not None
        self._asked = lru_cache(maxsize=_QUESTIONS)(self._ask)

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (n, dimension), in the order of `texts`; embedded sorted by length."""
        return self._encode([self.spec.passage_prompt + text for text in texts], with_tokens=False)[0]

    def passages_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[Vectors]]:
        """`passages`, and from the same forward pass the unit vectors of each text's tokens, shape (tokens, dimension).

        Padding and the marks of beginning and end have none, unless a text is nothing else: every text has one at
        least. What the encoder cuts off, being too long, has none either. Raises SetupError for an encoder without
        token vectors.
        """
        self._check_tokenwise()
        return self._encode([self.spec.passage_prompt + text for text in texts], with_tokens=True)

    def query(self, text: str) -> Vectors:
        """Unit vector of a question, shape (dimension,)."""
        return self._asked(text)[0]

    def query_tokens(self, text: str) -> Vectors:
        """Unit vectors of a question's tokens, shape (tokens, dimension): of the forward pass that `query` ran.

        Raises SetupError for an encoder without token vectors.
        """
        self._check_tokenwise()
        return self._asked(text)[1]

    def _ask(self, text: str) -> tuple[Vectors, Vectors]:
        vectors, tokens = self._encode([self.spec.query_prompt + text], with_tokens=self._tokenwise)
        return vectors[0], tokens[0] if tokens else vectors

    def _check_tokenwise(self) -> None:
        if not self._tokenwise:
            raise SetupError(
                f"embedder.model: {self.spec.model} is no transformer and has no token vectors; late interaction needs "
                "another encoder"
            )

    def _encode(self, texts: Sequence[str], *, with_tokens: bool) -> tuple[Vectors, list[Vectors]]:
        with self._lock:  # a fast tokenizer must not be used by two threads at once
            return self._encode_alone(texts, with_tokens)

    def _encode_alone(self, texts: Sequence[str], with_tokens: bool) -> tuple[Vectors, list[Vectors]]:
        """What `SentenceTransformer.encode` computes, to the bit, and the token vectors that it throws away."""
        import torch

        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))
        if self.spec.device == "cpu":
            torch.set_num_threads(self.spec.threads)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        tokens: dict[int, Vectors] = {}
        for first in range(0, len(order), self.spec.batch_size):
            rows = order[first : first + self.spec.batch_size]
            features = self._model.preprocess([texts[row] for row in rows])
            with torch.inference_mode():
                made = self._model({name: _placed(value, self.spec.device) for name, value in features.items()})
                vectors[rows] = _units(made["sentence_embedding"])
                if with_tokens:
                    kept = self._kept_tokens(made["input_ids"], made["attention_mask"])
                    tokens |= {row: _units(made["token_embeddings"][i][kept[i]]) for i, row in enumerate(rows)}
        return vectors, [tokens[row] for row in range(len(tokens))]

    def _kept_tokens(self, ids: Any, attended: Any) -> Any:
        """True for the tokens of a text itself, shape (texts, tokens); of a text without any, for all but padding."""
        inside = attended.bool()
        own = inside & ~sum((ids == mark for mark in self._marks), inside.new_zeros(inside.shape))
        return own | (inside & ~own.any(dim=1, keepdim=True))


def _placed(value: Any, device: str) -> Any:
    return value.to(device) if hasattr(value, "to") else value


def _units(vectors: Any) -> Vectors:
    """A tensor's rows in unit length, as float32 on the CPU."""
    import torch

    unit: Vectors = torch.nn.functional.normalize(vectors, p=2, dim=1).float().cpu().numpy()
    return unit


@lru_cache(maxsize=2)
def open_embedder(spec: EmbedSpec) -> Embedder:
    """The encoder that a policy names, loaded once a process; a relative folder is relative to the policy file."""
    if spec.endpoint:
        key = settings().embedding_api_key.get_secret_value()
        return EndpointEmbedder(spec.endpoint, spec.model, spec.passage_prompt, spec.query_prompt, spec.batch_size, key)
    root = settings().policy.parent
    embedder = SentenceTransformerEmbedder(spec, root)
    if spec.processes == 1:
        return embedder
    opened = partial(SentenceTransformerEmbedder, spec, root)
    return ParallelEmbedder(embedder, opened, spec.processes, max(8, spec.batch_size))


def _load(folder: Path, spec: EmbedSpec) -> Any:
    if spec.model == EMBEDDED:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from sentence_transformers import SentenceTransformer

    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    if spec.device == "cpu":
        torch.set_num_threads(spec.threads)
    try:
        return SentenceTransformer(
            str(folder),
            device=spec.device,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": getattr(torch, spec.dtype)},
        ).eval()
    except (OSError, ValueError) as error:
        raise SetupError(f"embedder.model: {folder} cannot be loaded: {error}") from error


def embed_texts(
    texts: Sequence[str],
    embedder: Embedder,
    cache: EmbeddingCache,
    progress: Callable[[int, int], None] = lambda done, total: None,
    at_once: int = SAVE_EVERY,
) -> tuple[Vectors, int, int]:
    """Vectors of the texts, shape (n, dimension), how many had to be computed, and n.

    Known texts come from the cache; new ones are written to it as they are made, so that a killed run goes on where it
    was: `at_once` a time (see EmbedSpec.at_once). `progress(done, total)` counts texts.
    """
    digests = [text_digest(text) for text in texts]
    vectors = cache.read(embedder.version, digests, embedder.dimension)
    by_digest = dict(zip(digests, texts, strict=True))
    missing = sorted(
        (digest for digest in by_digest if digest not in vectors), key=lambda item: (len(by_digest[item]), item)
    )
    copies = Counter(digests)
    fresh = left = sum(copies[digest] for digest in missing)
    progress(len(texts) - fresh, len(texts))
    for first in range(0, len(missing), at_once):
        batch = missing[first : first + at_once]
        made = dict(zip(batch, embedder.passages([by_digest[digest] for digest in batch]), strict=True))
        cache.write(embedder.version, made)
        vectors |= made
        left -= sum(copies[digest] for digest in batch)
        progress(len(texts) - left, len(texts))
    table = np.empty((len(texts), embedder.dimension), np.float32)
    for row, digest in enumerate(digests):
        table[row] = vectors[digest]
    return table, fresh, len(texts)


def embed_chunks(
    chunks: Sequence[Chunk],
    embedder: Embedder,
    cache: EmbeddingCache,
    progress: Callable[[int, int], None] = lambda done, total: None,
    at_once: int = SAVE_EVERY,
) -> tuple[Vectors, int, int]:
    """See embed_texts, for what is embedded of each chunk."""
    return embed_texts([chunk.embedding_text for chunk in chunks], embedder, cache, progress, at_once)


class CachedEmbedder:
    """Embedder that embeds a passage only if the cache does not hold its vector, and keeps what it embeds."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache) -> None:
        self.version = embedder.version
        self.dimension = embedder.dimension
        self._embedder = embedder
        self._cache = cache

    def passages(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        return embed_texts(texts, self._embedder, self._cache)[0]

    def query(self, text: str) -> Vectors:
        """See Embedder."""
        return self._embedder.query(text)
