"""Architectures before Llama: norms with bias, feed-forward parts without a gate (GPT-2, GPT-NeoX, Falcon, OPT)."""

from models.serving.shapes import CacheShape, Fields, Linear, ModelShape


def _shape(
    fields: Fields,
    *,
    hidden: int,
    layers: int,
    heads: int,
    middle: int,
    kv_heads: int | None = None,
    attention_bias: bool = True,
    mlp_bias: bool = True,
    tied: bool = True,
    embedding: int | None = None,
    extra: tuple[Linear, ...] = (),
    small: int = 0,
    longest: int | None = None,
) -> ModelShape:
    """A model of these sizes; `embedding` is the width of the token vectors where it is not `hidden`."""
    size, kv_heads = hidden // heads, kv_heads or heads
    vocabulary = fields.whole("vocab_size")
    tokens = vocabulary * (embedding or hidden)
    return ModelShape(
        architecture=str(fields.get("model_type")),
        hidden=hidden,
        layers=layers,
        attention_heads=heads,
        vocabulary=vocabulary,
        linears=(
            Linear(hidden, heads * size, layers, attention_bias),
            Linear(hidden, kv_heads * size, 2 * layers, attention_bias, split="kv"),
            Linear(heads * size, hidden, layers, attention_bias, split="row"),
            Linear(hidden, middle, layers, mlp_bias),
            Linear(middle, hidden, layers, mlp_bias, split="row"),
            *extra,
        ),
        embeddings=tokens,
        head=0 if fields.flag("tie_word_embeddings", tied) else tokens,
        small=small,
        cache=CacheShape(full_layers=layers, heads=kv_heads, head_elements=2 * size),
        attention_width=(heads + 2 * kv_heads) * size,
        mlp_width=2 * middle,
        longest=longest,
    )


def gpt2(fields: Fields) -> ModelShape:
    """GPT-2: learnt positions, everything with bias."""
    hidden, layers = fields.whole("n_embd", "hidden_size"), fields.whole("n_layer", "num_hidden_layers")
    positions = fields.whole("n_positions", "n_ctx")
    return _shape(
        fields,
        hidden=hidden,
        layers=layers,
        heads=fields.whole("n_head", "num_attention_heads"),
        middle=fields.optional("n_inner") or 4 * hidden,
        small=(2 * layers + 1) * 2 * hidden + positions * hidden,
        longest=positions,
    )


def gpt_neox(fields: Fields) -> ModelShape:
    """GPT-NeoX and Pythia: rotary positions, head apart."""
    hidden, layers = fields.whole("hidden_size"), fields.whole("num_hidden_layers")
    return _shape(
        fields,
        hidden=hidden,
        layers=layers,
        heads=fields.whole("num_attention_heads"),
        middle=fields.whole("intermediate_size"),
        attention_bias=fields.flag("attention_bias", True),
        tied=False,
        small=(2 * layers + 1) * 2 * hidden,
        longest=fields.optional("max_position_embeddings"),
    )


def falcon(fields: Fields) -> ModelShape:
    """Falcon: one key-value head (7B), groups of them (40B, 180B), or one for each head (RW-1B)."""
    hidden = fields.whole("hidden_size", "n_embed")
    layers = fields.whole("num_hidden_layers", "n_layer")
    heads = fields.whole("num_attention_heads", "n_head")
    new = fields.flag("new_decoder_architecture")
    bias = fields.flag("bias")
    kv_heads = fields.optional("num_kv_heads") or fields.optional("n_head_kv") or heads
    if not new:
        kv_heads = 1 if fields.flag("multi_query", True) else heads
    both = fields.optional("num_ln_in_parallel_attn") or (2 if new else 0)
    norms = 2 if (new and both == 2) or not fields.flag("parallel_attn", True) else 1
    return _shape(
        fields,
        hidden=hidden,
        layers=layers,
        heads=heads,
        middle=fields.optional("ffn_hidden_size") or 4 * hidden,
        kv_heads=kv_heads,
        attention_bias=bias,
        mlp_bias=bias,
        small=(norms * layers + 1) * 2 * hidden,
        longest=fields.optional("max_position_embeddings"),
    )


def opt(fields: Fields) -> ModelShape:
    """OPT: learnt positions (two more than it says); the 350M has narrower token vectors and norms after each part."""
    hidden, layers = fields.whole("hidden_size"), fields.whole("num_hidden_layers")
    width = fields.optional("word_embed_proj_dim") or hidden
    positions, bias = fields.whole("max_position_embeddings"), fields.flag("enable_bias", True)
    affine = fields.flag("layer_norm_elementwise_affine", True)
    last = fields.flag("do_layer_norm_before", True) and not fields.flag("_remove_final_layer_norm")
    between = (
        () if width == hidden else (Linear(width, hidden, 1, split="copy"), Linear(hidden, width, 1, split="copy"))
    )
    return _shape(
        fields,
        hidden=hidden,
        layers=layers,
        heads=fields.whole("num_attention_heads"),
        middle=fields.whole("ffn_dim"),
        attention_bias=bias,
        mlp_bias=bias,
        embedding=width,
        extra=between,
        small=(2 * layers + last) * 2 * hidden * affine + (positions + 2) * hidden,
        longest=positions,
    )
