"""A release: one immutable bundle of everything that shapes an answer, named by its own digest."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

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

    @property
    def content(self) -> dict[str, Any]:
        """The part by the digests of its artifacts."""
        adapter = self.adapter.digest if self.adapter else None
        return self.model_dump(mode="json") | {"base": self.base.digest, "adapter": adapter}


class RoutingPart(BaseModel):
    """Which questions of a release its small model answers."""

    model_config = ConfigDict(frozen=True)

    small: ModelPart
    difficulty: ArtifactRef
    """The classifier that foretells whether the small model is good enough."""
    threshold: float = Field(ge=0, le=1)
    """Lowest probability that goes to the small model."""

    @property
    def content(self) -> dict[str, Any]:
        """The part by the digests of its artifacts."""
        return {"small": self.small.content, "difficulty": self.difficulty.digest, "threshold": self.threshold}


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
    routing: RoutingPart | None = None
    """None: `model` answers every question, and the bundle is written as if there were no such field."""

    @model_serializer(mode="wrap")
    def _routing_where_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name != "routing" or value is not None}

    @property
    def digest(self) -> str:
        """sha256 over the content digests (addresses do not count)."""
        parts = self.model_dump(mode="json")
        parts["model"], parts["prompt"], parts["index"] = self.model.content, self.prompt.digest, self.index.digest
        if self.routing:
            parts["routing"] = self.routing.content
        return value_digest(parts)
