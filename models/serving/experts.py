"""Feed-forward parts: one dense, or experts behind a router (Mixtral, Qwen-MoE)."""

from models.serving.shapes import Fields, Linear

Part = tuple[tuple[Linear, ...], int]
"""Matrices, and the numbers of one token in the middle."""


def gated(hidden: int, middle: int, count: int, bias: bool = False, expert: bool = False) -> tuple[Linear, ...]:
    """`count` gated feed-forward parts: gate and up, then down."""
    return (
        Linear(hidden, middle, 2 * count, bias, adapted=not expert),
        Linear(middle, hidden, count, bias, split="row", adapted=not expert),
    )


def dense(fields: Fields, layers: int, hidden: int) -> Part:
    """One gated part a layer."""
    middle = fields.whole("intermediate_size")
    return gated(hidden, middle, layers, fields.flag("mlp_bias")), 3 * middle


def router(hidden: int, experts: int, layers: int) -> Linear:
    """The matrix that chooses the experts of a token."""
    return Linear(hidden, experts, layers, split="copy", quantized=False, adapted=False)


def mixtral(fields: Fields, layers: int, hidden: int) -> Part:
    """Experts of the full width in every layer."""
    middle, experts = fields.whole("intermediate_size"), fields.whole("num_local_experts")
    matrices = (router(hidden, experts, layers), *gated(hidden, middle, layers * experts, expert=True))
    return matrices, 3 * middle * fields.whole("num_experts_per_tok")


def qwen_experts(fields: Fields, layers: int, hidden: int) -> Part:
    """Narrow experts, in Qwen2 beside a shared one with a gate; some layers may be dense."""
    sparse = sum(_is_sparse(fields, layer) for layer in range(layers))
    middle, experts = fields.whole("moe_intermediate_size"), fields.whole("num_experts", "num_local_experts")
    wide = fields.whole("intermediate_size")
    matrices = [router(hidden, experts, sparse), *gated(hidden, middle, sparse * experts, expert=True)]
    matrices += gated(hidden, wide, layers - sparse)
    width = 3 * middle * fields.whole("num_experts_per_tok")
    shared = fields.optional("shared_expert_intermediate_size")
    if shared:
        matrices += [router(hidden, 1, sparse), *gated(hidden, shared, sparse)]
        width += 3 * shared
    return tuple(matrices), max(width, 3 * wide if sparse < layers else 0)


def _is_sparse(fields: Fields, layer: int) -> bool:
    """Whether a layer has experts, by `decoder_sparse_step` and `mlp_only_layers`."""
    step = fields.optional("decoder_sparse_step") or 1
    return layer not in (fields.get("mlp_only_layers") or ()) and (layer + 1) % step == 0
