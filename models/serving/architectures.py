"""config.json → shape of the model, for the architectures whose parameters are counted here.

tests/unit/test_architectures.py checks each count against the model that transformers builds from the same config.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from infra.errors import InputError
from models.serving.experts import dense, mixtral, qwen_experts
from models.serving.latent import deepseek
from models.serving.older import falcon, gpt2, gpt_neox, opt
from models.serving.shapes import CacheShape, Fields, Linear, ModelShape


@dataclass(frozen=True)
class Llamalike:
    """How an architecture differs from Llama: RMS norms, rotary positions, gated feed-forward part, no bias."""

    tied: bool = False
    """Whether the head is the embeddings where config.json does not say."""
    qkv_bias: bool = False
    """Bias of queries, keys and values where neither `attention_bias` nor `qkv_bias` says."""
    shared_bias: bool = True
    """Whether `attention_bias` holds for the output projection, too."""
    head_norms: bool = False
    """A norm of each query and key head."""
    norms: int = 2
    """Norms of a layer."""
    feed_forward: Callable[[Fields, int, int], tuple[tuple[Linear, ...], int]] = dense
    """(fields, layers, hidden) → matrices and width of the feed-forward part."""

    def shape(self, fields: Fields) -> ModelShape:
        """The shape of a model of this kind."""
        hidden, layers = fields.whole("hidden_size"), fields.whole("num_hidden_layers")
        heads, vocabulary = fields.whole("num_attention_heads"), fields.whole("vocab_size")
        kv_heads = fields.optional("num_key_value_heads") or heads
        size = head_size(fields, hidden, heads)
        bias = fields.flag("qkv_bias", fields.flag("attention_bias", self.qkv_bias))
        matrices, width = self.feed_forward(fields, layers, hidden)
        attention = (
            Linear(hidden, heads * size, layers, bias),
            Linear(hidden, kv_heads * size, 2 * layers, bias, split="kv"),
            Linear(heads * size, hidden, layers, self.shared_bias and fields.flag("attention_bias"), split="row"),
        )
        return ModelShape(
            architecture=str(fields.get("model_type")),
            hidden=hidden,
            layers=layers,
            attention_heads=heads,
            vocabulary=vocabulary,
            linears=(*attention, *matrices),
            embeddings=vocabulary * hidden,
            head=0 if fields.flag("tie_word_embeddings", self.tied) else vocabulary * hidden,
            small=(layers * self.norms + 1) * hidden + layers * 2 * size * self.head_norms,
            cache=grouped_cache(fields, layers, kv_heads, size),
            attention_width=(heads + 2 * kv_heads) * size,
            mlp_width=width,
            longest=fields.optional("max_position_embeddings"),
        )


def head_size(fields: Fields, hidden: int, heads: int) -> int:
    """`head_dim`, or hidden / heads where it is left out. Raises InputError when that leaves a rest."""
    size = fields.optional("head_dim")
    if size is None and hidden % heads:
        raise InputError(f"{fields.where}: num_attention_heads: {heads} does not divide hidden_size {hidden}")
    return size or hidden // heads


def grouped_cache(fields: Fields, layers: int, kv_heads: int, size: int) -> CacheShape:
    """Cache of grouped-query attention: all layers keep everything, or some only a window."""
    windowed = window_layers(fields, layers)
    cache = CacheShape(full_layers=layers - windowed, heads=kv_heads, head_elements=2 * size)
    return replace(cache, window_layers=windowed, window=fields.whole("sliding_window")) if windowed else cache


def window_layers(fields: Fields, layers: int) -> int:
    """How many layers look at a window only. Raises InputError for a kind of layer that is not known."""
    if not fields.get("sliding_window") or not fields.flag("use_sliding_window", True):
        return 0
    kinds = fields.get("layer_types")
    if kinds is not None:
        unknown = set(kinds) - {"full_attention", "sliding_attention"}
        if unknown or len(kinds) != layers:
            what = f"kind {min(unknown)!r} is not known" if unknown else f"{len(kinds)} entries for {layers} layers"
            raise InputError(f"{fields.where}: layer_types: {what}")
        return sum(kind == "sliding_attention" for kind in kinds)
    every = fields.optional("sliding_window_pattern")
    if every is not None:  # Gemma: each `every`-th layer sees everything
        return layers - layers // every
    return max(layers - fields.whole("max_window_layers", least=0), 0) if fields.get("use_sliding_window") else layers


@dataclass(frozen=True)
class Architecture:
    """A known `model_type`."""

    shape: Callable[[Fields], ModelShape]
    defaults: Mapping[str, Any]
    """Values of fields that a nested `text_config` leaves out, as the transformers class has them."""


LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
MISTRAL = LLAMA | {"intermediate_size": 14336, "num_key_value_heads": 8}
QWEN = LLAMA | {"vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32}
GEMMA = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
}
GEMMA2 = GEMMA | {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
}
GEMMA3 = GEMMA2 | {"vocab_size": 262208}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(Llamalike().shape, LLAMA),
    "mistral": Architecture(Llamalike().shape, MISTRAL),
    "qwen2": Architecture(Llamalike(qkv_bias=True, shared_bias=False).shape, QWEN),
    "qwen3": Architecture(Llamalike(head_norms=True).shape, QWEN | {"head_dim": 128}),
    "gemma": Architecture(Llamalike(tied=True).shape, GEMMA),
    "gemma2": Architecture(Llamalike(tied=True, norms=4).shape, GEMMA2),
    "gemma3_text": Architecture(Llamalike(tied=True, norms=4, head_norms=True).shape, GEMMA3),
    "phi3": Architecture(Llamalike().shape, {}),
    "mixtral": Architecture(Llamalike(feed_forward=mixtral).shape, MISTRAL),
    "qwen2_moe": Architecture(Llamalike(qkv_bias=True, shared_bias=False, feed_forward=qwen_experts).shape, {}),
    "qwen3_moe": Architecture(Llamalike(head_norms=True, feed_forward=qwen_experts).shape, {}),
    "deepseek_v2": Architecture(deepseek, {}),
    "deepseek_v3": Architecture(deepseek, {}),
    "gpt2": Architecture(gpt2, {}),
    "gpt_neox": Architecture(gpt_neox, {}),
    "falcon": Architecture(falcon, {}),
    "opt": Architecture(opt, {}),
}

EVERY = {"gemma2": 2, "gemma3_text": 6}
"""Gemma's `sliding_window_pattern` where config.json has neither it nor `layer_types`."""
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Fields without which no architecture can be planned, for the message about one that is not known."""


def read_shape(config: Mapping[str, Any], where: str) -> ModelShape:
    """The shape of the model that the config.json `where` describes; of a multimodal one, of its language part.

    Raises: InputError naming the field that is missing or wrong, and for an architecture that is not known what it
    lacks.
    """
    nested = config.get("text_config")
    values = dict(config)
    notes: tuple[str, ...] = ()
    if isinstance(nested, Mapping):
        outer = {name: config[name] for name in ("tie_word_embeddings",) if name in config}
        values, where = outer | dict(nested), f"{where} (text_config)"
        notes = ("only the language part is counted: what reads images or sound needs memory of its own",)
    name = values.get("model_type")
    if name not in ARCHITECTURES:
        raise InputError(_unknown(values, where))
    known = ARCHITECTURES[name]
    defaults = known.defaults if isinstance(nested, Mapping) else {}
    if name in EVERY:
        defaults = {**defaults, "sliding_window_pattern": EVERY[name]}
    shape = known.shape(Fields(where, values, defaults))
    return replace(shape, notes=notes)


def _unknown(values: Mapping[str, Any], where: str) -> str:
    """What a config.json of another architecture lacks."""
    name = values.get("model_type")
    told = f"model_type {name!r} is not known" if name else "model_type is missing"
    missing = [field for field in NEEDED if values.get(field) is None]
    lacks = f"; it also lacks {', '.join(missing)}" if missing else "; its matrices cannot be counted from it"
    return f"{where}: {told}{lacks}; known are {', '.join(sorted(ARCHITECTURES))}"
