"""Multi-head latent attention and experts of DeepSeek-V2 and -V3: the cache keeps one small vector a token."""

from models.serving.experts import Part, gated, router
from models.serving.shapes import CacheShape, Fields, Linear, ModelShape


def deepseek(fields: Fields) -> ModelShape:
    """The shape of a DeepSeek-V2 or -V3 model (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1)."""
    hidden, layers = fields.whole("hidden_size"), fields.whole("num_hidden_layers")
    heads, vocabulary = fields.whole("num_attention_heads"), fields.whole("vocab_size")
    rank, rotary = fields.whole("kv_lora_rank"), fields.whole("qk_rope_head_dim")
    matrices, norms = _attention(fields, layers, hidden, heads)
    experts, width = _experts(fields, layers, hidden)
    plain, value = fields.whole("qk_nope_head_dim"), fields.whole("v_head_dim")
    return ModelShape(
        architecture=str(fields.get("model_type")),
        hidden=hidden,
        layers=layers,
        attention_heads=heads,
        vocabulary=vocabulary,
        linears=(*matrices, *experts),
        embeddings=vocabulary * hidden,
        head=0 if fields.flag("tie_word_embeddings") else vocabulary * hidden,
        small=(2 * layers + 1) * hidden + layers * norms,
        cache=CacheShape(full_layers=layers, head_elements=rank + rotary, latent=True),
        attention_width=heads * (2 * plain + 2 * rotary + value),
        mlp_width=width,
        longest=fields.optional("max_position_embeddings"),
    )


def _attention(fields: Fields, layers: int, hidden: int, heads: int) -> tuple[tuple[Linear, ...], int]:
    """Matrices of the attention, and the parameters of its norms in one layer."""
    rank, rotary = fields.whole("kv_lora_rank"), fields.whole("qk_rope_head_dim")
    plain, value = fields.whole("qk_nope_head_dim"), fields.whole("v_head_dim")
    query_rank = fields.optional("q_lora_rank")
    bias, queries = fields.flag("attention_bias"), heads * (plain + rotary)
    matrices = [
        Linear(hidden, rank + rotary, layers, bias, split="copy"),
        Linear(rank, heads * (plain + value), layers),
        Linear(heads * value, hidden, layers, bias, split="row"),
    ]
    if query_rank is None:
        return (*matrices, Linear(hidden, queries, layers)), rank
    matrices += [Linear(hidden, query_rank, layers, bias, split="copy"), Linear(query_rank, queries, layers)]
    return tuple(matrices), rank + query_rank


def _experts(fields: Fields, layers: int, hidden: int) -> Part:
    """The first layers are dense, the others have routed and shared experts."""
    wide = fields.whole("intermediate_size")
    experts, middle = fields.whole("n_routed_experts"), fields.whole("moe_intermediate_size")
    shared = middle * fields.whole("n_shared_experts", least=0)
    first = min(fields.whole("first_k_dense_replace", least=0), layers)
    sparse = layers - first
    matrices = [*gated(hidden, wide, first), router(hidden, experts, sparse)]
    matrices += gated(hidden, middle, sparse * experts, expert=True)
    matrices += gated(hidden, shared, sparse) if shared else ()
    width = 3 * (middle * fields.whole("num_experts_per_tok") + shared)
    return tuple(matrices), max(width, 3 * wide if first else 0)
