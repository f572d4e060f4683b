"""What the memory of a model depends on: its matrices, its small parameters and what its cache keeps of a token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from infra.errors import InputError

Split = Literal["column", "row", "kv", "copy"]
"""How tensor parallelism divides a matrix: by outputs, by inputs, by key-value heads, or not at all."""


@dataclass(frozen=True)
class Linear:
    """`count` equal matrices of a model, (outputs, inputs) each, with a bias of `outputs` or without."""

    inputs: int
    outputs: int
    count: int
    bias: bool = False
    split: Split = "column"
    quantized: bool = True
    """False for routers: they stay in 16 bits, their rounding moves whole tokens to other experts."""
    adapted: bool = True
    """Whether a LoRA adapter has a slot here; experts have none."""

    @property
    def parameters(self) -> int:
        """Weights and biases of all of them."""
        return self.count * self.outputs * (self.inputs + self.bias)


@dataclass(frozen=True)
class CacheShape:
    """What the key-value cache keeps."""

    full_layers: int
    """Layers that keep every token."""
    window_layers: int = 0
    """Layers that keep the last `window` tokens."""
    window: int = 0
    heads: int = 1
    """Key-value heads that tensor parallelism may divide."""
    head_elements: int = 0
    """Numbers that one layer keeps of one token for one head: key and value."""
    latent: bool = False
    """Multi-head latent attention: one vector a token, which every rank keeps whole."""


@dataclass(frozen=True)
class ModelShape:
    """A model as its config.json describes it, without any weight."""

    architecture: str
    hidden: int
    layers: int
    attention_heads: int
    vocabulary: int
    linears: tuple[Linear, ...]
    embeddings: int
    """Parameters of the token embeddings."""
    head: int
    """Parameters of the output head; 0 where it is the embeddings (tied)."""
    small: int
    """Norms, learnt positions and other parameters that are never quantized nor divided."""
    cache: CacheShape
    attention_width: int
    """Numbers of one token in queries, keys and values together."""
    mlp_width: int
    """Numbers of one token in the middle of the feed-forward part: gate, up and their product, over active experts."""
    longest: int | None = None
    """Tokens that the positions reach to, where config.json says it."""
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """All parameters, as `model.num_parameters()` counts them."""
        return sum(linear.parameters for linear in self.linears) + self.embeddings + self.head + self.small


@dataclass(frozen=True)
class Fields:
    """Fields of a config.json; every error names the field and the file."""

    where: str
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """What a field that is left out means; only a nested `text_config` may leave out what counts."""

    def get(self, name: str, default: Any = None) -> Any:
        """The value; without it the architecture's default, else `default`."""
        return self.values.get(name, self.defaults.get(name, default))

    def whole(self, *names: str, least: int = 1) -> int:
        """The first of these fields that is there, a whole number of at least `least`. Raises InputError without."""
        for name in names:
            value = self.get(name)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < least:
                    raise InputError(f"{self.where}: {name} must be a whole number of at least {least} (got {value!r})")
                return value
        raise InputError(f"{self.where}: {' or '.join(names)} is missing, and the memory cannot be counted without it")

    def optional(self, name: str) -> int | None:
        """A whole number above 0, or None where the field is missing or null."""
        return None if self.get(name) is None else self.whole(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{self.where}: {name} must be true or false (got {value!r})")
        return default if value is None else value
