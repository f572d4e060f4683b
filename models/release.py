"""A release: one immutable bundle of everything that shapes an answer, named by its own digest."""

from pydantic import BaseModel, ConfigDict

from infra.store import ArtifactRef, value_digest
from models.quantizing.methods import Precision


class ModelPart(BaseModel):
    """The model of a release.

    bf16 with an adapter: the engine loads `base` and serves `adapter` (LoRA) beside it. Quantized: `base` is the
    merged and quantized folder itself and `adapter` is None; `parent` then names the bf16 pair it was made from.
    A precision that the engine has no kernel for is such a folder in bf16 with rounded weights: for measuring only.
    """

    model_config = ConfigDict(frozen=True)

    base: ArtifactRef
    adapter: ArtifactRef | None = None
    precision: Precision = "bf16"
    parent: str = ""


class Release(BaseModel):
    """Digest-named bundle. Fields hold digests or whole small specs, so that a release can be rebuilt from itself."""

    model_config = ConfigDict(frozen=True)

    model: ModelPart
    prompt: ArtifactRef
    index: ArtifactRef
    retrieval: dict[str, object]
    guards: dict[str, object]
    judge: str
    """Version of the scorers that the gate used."""
    code: str
    """Version of the code on the request path."""

    @property
    def digest(self) -> str:
        """sha256 over the content digests (addresses do not count)."""
        parts = self.model_dump(mode="json")
        parts["model"]["base"] = self.model.base.digest
        parts["model"]["adapter"] = self.model.adapter.digest if self.model.adapter else None
        parts["prompt"], parts["index"] = self.prompt.digest, self.index.digest
        return value_digest(parts)
