"""Bytes of a served model on one card, part by part: weights, adapters, activations, cache blocks."""

from typing import Literal

from pydantic import Field

from infra.settings import Spec
from models.quantizing.methods import WeightType
from models.serving.shapes import CacheShape, Linear, ModelShape

CacheType = Literal["auto", "fp32", "bf16", "fp16", "fp8"]

WIDTH = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}
"""Bytes of a number."""
VOCABULARY_MULTIPLE = 64
"""Rows that vLLM rounds the embeddings up to before it divides them among ranks."""
OVERHEAD = 2**30
"""Bytes of a rank beside weights, cache and activations: the CUDA context with the kernels' code (about 0.5 GiB on
current cards) and the captured CUDA graphs (vLLM logs 0.3 to 0.7 GiB for 1 to 70 billion parameters)."""
RANK_OVERHEAD = 2**29
"""More of it with tensor parallelism: NCCL's buffers and the ones of vLLM's own all-reduce."""


class MemorySpec(Spec):
    """What shall be served on what."""

    gpu_bytes: int = Field(ge=2**20)
    """Memory of one card."""
    context: int = Field(ge=1)
    """Longest prompt and answer together, in tokens (vLLM's `max_model_len`)."""
    concurrency: int = Field(1, ge=1)
    """Requests of that length in flight at once."""
    precision: WeightType = "bf16"
    """Weights of the linear layers; head, embeddings and norms stay in 16 bits."""
    kv_dtype: CacheType = "auto"
    """Numbers of the cache; auto: 16 bits, with fp32 weights 32."""
    tensor_parallel: int = Field(1, ge=1, le=1024)
    """Cards that share every layer."""
    block_size: int = Field(16, ge=1, le=1024)
    """Tokens of a cache block: vLLM takes 16 on CUDA and 128 on the CPU."""
    utilization: float = Field(0.92, gt=0, le=1)
    """Share of the card that may be used (vLLM's `gpu_memory_utilization` and its default)."""
    batched_tokens: int = Field(8192, ge=1)
    """Tokens in one step (vLLM's `max_num_batched_tokens`): the activations grow with it."""
    steps_in_flight: int = Field(2, ge=1, le=1024)
    """Steps that vLLM schedules before the first is settled (its `max_concurrent_batches`): 2 with its asynchronous
    scheduling, the default on CUDA; 1 without: its CPU platform always turns it off. Layers with a window keep them."""
    lora_rank: int = Field(0, ge=0, le=1024)
    """Highest rank of an adapter that may be loaded; 0: none."""
    max_loras: int = Field(1, ge=1, le=1024)
    """Adapters in one batch: each has a slot of the highest rank."""
    group_size: int = Field(128, ge=1)
    """w4a16, w4a16-awq: weights that share one scale."""


def stored_bytes(outputs: int, inputs: int, precision: WeightType, group_size: int = 128) -> int:
    """Bytes of one matrix with its scales.

    fp8, w8a8: one 16-bit scale an output (compressed-tensors). w4a16: one a group, and 16 bytes that note the shape.
    nf4: blocks of 64 with an 8-bit scale, 256 of these with one of 32 bits (double quantization, Dettmers et al. 2023,
    section 3). hqq: groups of 64 with 16-bit scale and zero point; 3 bits are packed by ten into 32.
    """
    count = outputs * inputs
    if precision in {"fp32", "bf16", "fp16"}:
        return count * WIDTH[precision]
    if precision in {"fp8", "w8a8"}:
        return count + 2 * outputs
    if precision in {"w4a16", "w4a16-awq"}:
        return outputs * (up(inputs, 8) * 4 + 2 * up(inputs, group_size)) + 16
    if precision == "nf4":
        return up(count, 2) + up(count, 64) + 4 * up(count, 64 * 256)
    bits = int(precision.removeprefix("hqq"))
    groups = up(count, 64)
    packed = up(groups, 10) * 64 * 4 if bits == 3 else up(count * bits, 8)
    return packed + 4 * groups


def weight_bytes(shape: ModelShape, spec: MemorySpec) -> int:
    """Weights of one rank."""
    ranks, wide = spec.tensor_parallel, WIDTH["fp32" if spec.precision == "fp32" else "bf16"]
    total = wide * shape.small
    rows = up(shape.vocabulary, VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE if ranks > 1 else shape.vocabulary
    for table in (shape.embeddings, shape.head):
        total += wide * up(table // shape.vocabulary * rows, ranks)
    for linear in shape.linears:
        outputs, inputs = _divided(linear, shape.cache, ranks)
        full: WeightType = "fp32" if spec.precision == "fp32" else "bf16"
        precision = spec.precision if linear.quantized else full
        one = stored_bytes(outputs, inputs, precision, spec.group_size) + wide * outputs * linear.bias
        total += linear.count * one
    return total


def lora_bytes(shape: ModelShape, spec: MemorySpec) -> int:
    """Slots for adapters: A (rank, inputs) and B (outputs, rank) of every matrix, in 16 bits, reserved in full.

    What is not divided among ranks is on every one, as vLLM does without `--fully-sharded-loras`.
    """
    total = 0
    for linear in shape.linears:
        outputs, inputs = _divided(linear, shape.cache, spec.tensor_parallel)
        total += linear.count * (outputs + inputs) if linear.adapted else 0
    return 2 * spec.lora_rank * spec.max_loras * total


def activation_bytes(shape: ModelShape, spec: MemorySpec) -> int:
    """An estimate of the most that one step holds beside weights and cache, in 16 bits.

    Of each batched token: the residual stream twice (input and sum of a layer), and the larger of queries, keys and
    values with the attention's output, and of gate, up and their product. Or, after the layers, the logits of every
    request: in 16 bits, in 32, and sorted with their indices and probabilities for sampling (24 bytes each). That is
    what vLLM's start measures with a batch of `max_num_batched_tokens` and a sampling step (`profile_run`).
    """
    ranks, tokens = spec.tensor_parallel, spec.batched_tokens
    attention = (shape.attention_width + shape.hidden) // ranks
    layer = 2 * tokens * max(attention, shape.mlp_width // ranks)
    logits = 24 * spec.concurrency * shape.vocabulary
    return 2 * 2 * tokens * shape.hidden + max(layer, logits)


def overhead_bytes(spec: MemorySpec) -> int:
    """What the runtime takes for itself."""
    return OVERHEAD + (RANK_OVERHEAD if spec.tensor_parallel > 1 else 0)


def page_bytes(cache: CacheShape, spec: MemorySpec) -> int:
    """One block of one layer. Heads that are fewer than ranks are held by several ranks."""
    heads = 1 if cache.latent else max(cache.heads // spec.tensor_parallel, 1)
    return spec.block_size * heads * cache.head_elements * cache_width(spec)


def cache_width(spec: MemorySpec) -> int:
    """Bytes of a number in the cache."""
    if spec.kv_dtype == "auto":
        return WIDTH["fp32" if spec.precision == "fp32" else "bf16"]
    return WIDTH[spec.kv_dtype]


def block_bytes(cache: CacheShape, spec: MemorySpec) -> int:
    """A block through all layers that share its table: vLLM divides mixed models into groups of as many layers."""
    return group_layers(cache) * page_bytes(cache, spec)


def group_layers(cache: CacheShape) -> int:
    """Layers of a group (vLLM 0.32, `_get_kv_cache_groups_uniform_page_size`)."""
    kinds = [count for count in (cache.full_layers, cache.window_layers) if count]
    return max(kinds) if max(kinds) < 1.5 * min(kinds) else min(kinds)


def blocks_per_request(cache: CacheShape, spec: MemorySpec) -> int:
    """Blocks of one request at its full length, over all groups of layers.

    A group of layers that see everything: context / block_size, rounded up. One of layers with a window:
    min(window - 1 + steps_in_flight × batched_tokens, context) / block_size, rounded up, and one more, as the window
    need not begin with a block; tokens of steps under way stay, as blocks are freed once their step is settled.
    Source: vLLM 0.32, `SlidingWindowSpec.max_admission_blocks_per_request` with `VllmConfig.max_in_flight_tokens`; the
    sum over groups is that of `get_max_concurrency_for_kv_cache_config`.
    """
    length, group = spec.context, group_layers(cache)
    blocks = up(cache.full_layers, group) * up(length, spec.block_size)
    kept = min(cache.window - 1 + spec.steps_in_flight * spec.batched_tokens, length)
    return blocks + up(cache.window_layers, group) * (up(kept, spec.block_size) + 1)


def cache_bytes(cache: CacheShape, spec: MemorySpec) -> int:
    """Blocks of all requests, and the one that vLLM keeps back (its null block)."""
    return (spec.concurrency * blocks_per_request(cache, spec) + 1) * block_bytes(cache, spec)


def cache_tokens(cache: CacheShape, spec: MemorySpec, room: int) -> int:
    """Tokens that `room` bytes hold, as vLLM logs them: requests of full length, with the fraction, times their length.

    Source: vLLM 0.32, `get_kv_cache_capacity`: the block that it keeps back counts as room, too.
    """
    blocks = room // block_bytes(cache, spec)
    return int(blocks / blocks_per_request(cache, spec) * spec.context)


def token_bytes(cache: CacheShape, spec: MemorySpec) -> int:
    """Cache of one token over all layers."""
    return page_bytes(cache, spec) // spec.block_size * (cache.full_layers + cache.window_layers)


def cache_formula(cache: CacheShape, spec: MemorySpec) -> str:
    """Requests × tokens × layers × 2 × width × bytes, with its product, as people check it by hand."""
    width, layers = cache_width(spec), cache.full_layers + cache.window_layers
    numbers = page_bytes(cache, spec) // (spec.block_size * width)
    factors = [spec.concurrency, spec.context, layers, *((numbers,) if cache.latent else (2, numbers // 2)), width]
    product = 1
    for factor in factors:
        product *= factor
    return f"{' × '.join(f'{factor:,}' for factor in factors)} = {product:,} bytes"


def _divided(linear: Linear, cache: CacheShape, ranks: int) -> tuple[int, int]:
    """(outputs, inputs) of a matrix on one rank."""
    if linear.split == "copy":
        return linear.outputs, linear.inputs
    if linear.split == "row":
        return linear.outputs, up(linear.inputs, ranks)
    if linear.split == "kv":
        return linear.outputs // cache.heads * max(cache.heads // ranks, 1), linear.inputs
    return up(linear.outputs, ranks), linear.inputs


def up(value: int, step: int) -> int:
    """value / step, rounded up."""
    return -(-value // step)
