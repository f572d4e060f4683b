"""Rerankers: candidates of the first stage scored anew against the question."""

import importlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from indexes.tokens import TokenEmbedder, TokenVectors
from indexes.weights import model_folder
from infra.errors import SetupError
from infra.settings import Spec, settings
from infra.store import code_version, folder_manifest, value_digest

FIELD = "answering.search.rerank.model"


class RerankSpec(Spec):
    """Whether and how candidates are ranked anew."""

    kind: Literal["late-interaction", "cross-encoder"]
    """Stored token vectors of the index's own encoder (milliseconds), or a model that reads question and text
    together (a forward pass a candidate)."""
    model: str = ""
    """Cross-encoder: a folder or a Hugging Face id. Late interaction: empty."""
    revision: str = ""
    """Commit of a Hugging Face id; empty = the newest."""
    weights: str = ""
    """Digest of a cross-encoder's files; set when a release is put together, and other files are refused then."""
    candidates: int = Field(50, ge=1, le=1000)
    """Best passages of the first stage that are scored; what lies below them keeps its place."""
    device: str = "cpu"
    """Torch device of a cross-encoder."""
    batch_size: int = Field(1, ge=1)
    """Pairs that a cross-encoder reads at once. With 1 a score does not depend on the other candidates, and on a CPU
    more are no faster; larger batches are for GPUs."""
    max_tokens: int = Field(512, ge=16, le=8192)
    """Tokens of question and text that a cross-encoder reads; the rest of a longer text is cut off."""
    threads: int = Field(1, ge=1)
    """Compute threads of a cross-encoder on a CPU."""
    weight: float | None = Field(None, gt=0)
    """Weight of the reranker's ranking, fused by reciprocal rank with the first stage's, whose weight is 1; none: the
    reranker's order alone decides."""

    @model_validator(mode="after")
    def _model_fits_kind(self) -> "RerankSpec":
        if (self.kind == "cross-encoder") != bool(self.model):
            raise ValueError("model must be named for a cross-encoder, and for nothing else")
        return self


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


class CrossEncoderReranker:
    """Reranker by a model that reads question and text together and gives one logit (Nogueira and Cho 2019).

    Loads safetensors only and runs no code of a model's repository.
    """

    def __init__(self, spec: RerankSpec, root: Path) -> None:
        """`root` is the folder that a relative model folder is relative to (the policy file's).

        Raises: InputError for a name that is neither a folder nor a Hugging Face id; SetupError for a model that
        cannot be fetched or loaded, or gives other than one score a pair.
        """
        self.spec = spec
        self._lock = threading.Lock()
        folder = model_folder(spec.model, spec.revision, root, FIELD)
        weights = _digest(folder)
        if spec.weights not in ("", weights):
            raise SetupError(f"{FIELD}: {folder} holds other files than the release was measured with; restore them")
        self._model = _load(folder, spec)
        if self._model.num_labels != 1:
            raise SetupError(
                f"{FIELD}: {spec.model} gives {self._model.num_labels} scores a pair; a reranker gives one"
            )
        parts = [weights, spec.max_tokens, code_version("indexes/rerankers.py")]
        self.version = value_digest(parts)[:32]

    def scores(self, question: str, rows: Sequence[int], texts: Sequence[str]) -> NDArray[np.float32]:
        """See Reranker; logits. The rows are not read."""
        import torch

        with self._lock:  # a fast tokenizer must not be used by two threads at once
            if self.spec.device == "cpu":
                torch.set_num_threads(self.spec.threads)
            logits: NDArray[np.float32] = self._model.predict(
                [(question, text) for text in texts],
                batch_size=self.spec.batch_size,
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
            )
        return logits.astype(np.float32)


def _load(folder: Path, spec: RerankSpec) -> Any:
    import torch
    from sentence_transformers import CrossEncoder

    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    try:
        return CrossEncoder(
            str(folder),
            device=spec.device,
            max_length=spec.max_tokens,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    except (OSError, ValueError) as error:
        raise SetupError(f"{FIELD}: {folder} cannot be loaded: {error}") from error


def _digest(folder: Path) -> str:
    return value_digest(folder_manifest("reranker", folder))


def pinned(spec: RerankSpec, root: Path) -> RerankSpec:
    """The spec bound to the files that its model has now. Raises as CrossEncoderReranker does."""
    if spec.kind != "cross-encoder":
        return spec
    return spec.model_copy(update={"weights": _digest(model_folder(spec.model, spec.revision, root, FIELD))})


@lru_cache(maxsize=2)
def open_cross_encoder(spec: RerankSpec) -> CrossEncoderReranker:
    """The cross-encoder that a policy names, loaded once a process; a folder is relative to the policy file."""
    return CrossEncoderReranker(spec, settings().policy.parent)
