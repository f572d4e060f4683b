"""The memory planner: does a model fit a card at a context and a concurrency, and how far does it go?

Pure arithmetic over a `ModelShape`. All sizes are bytes of one card (one rank of tensor parallelism).
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from models.serving.footprint import (
    MemorySpec,
    activation_bytes,
    block_bytes,
    blocks_per_request,
    cache_bytes,
    cache_formula,
    cache_tokens,
    cache_width,
    lora_bytes,
    overhead_bytes,
    token_bytes,
    weight_bytes,
)
from models.serving.shapes import ModelShape

SMALL_BATCH = 2048
"""Batched tokens that vLLM takes on cards below 70 GiB."""
MOST_REQUESTS = 2**16
"""Where the search for the largest concurrency ends."""
LONGEST = 2**24
"""Where the search for the longest context ends for a model whose positions have no end."""


class Change(BaseModel):
    """One thing to change, the bytes that it alone saves on a card, and whether it alone is enough."""

    model_config = ConfigDict(frozen=True)

    change: str
    saves_bytes: int
    enough: bool


class MemoryPlan(BaseModel):
    """The answer; bytes of one card."""

    model_config = ConfigDict(frozen=True)

    fits: bool
    parameters: int
    gpu_bytes: int
    usable_bytes: int
    """The card times the utilization."""
    weights_bytes: int
    lora_bytes: int
    activation_bytes: int
    """An estimate, see `activation_bytes`."""
    overhead_bytes: int
    """An estimate, see `OVERHEAD`."""
    cache_needed_bytes: int
    """Blocks of all requests, and the one block that vLLM keeps back."""
    cache_room_bytes: int
    """What is left for the cache."""
    free_bytes: int
    """Left over when the requests run; negative: lacking."""
    bytes_per_token: int
    """Cache of one token over all layers, without rounding to blocks."""
    blocks: int
    """Whole blocks in the room for the cache."""
    blocks_per_request: int
    cache_tokens: int
    """Tokens that the room holds, as vLLM logs them (`KV cache size: N tokens`)."""
    largest_concurrency: int
    """Requests of the asked context that fit at once."""
    largest_context: int
    """Longest context at the asked concurrency, no longer than the model's positions."""
    formula: str
    """The cache of the requests in full, without rounding to blocks."""
    changes: tuple[Change, ...]
    """What to change first, where it does not fit."""
    notes: tuple[str, ...]


def plan_memory(shape: ModelShape, spec: MemorySpec) -> MemoryPlan:
    """Whether and how far `shape` fits. Raises InputError for a tensor parallelism that the heads cannot take."""
    if not _divides(shape, spec.tensor_parallel):
        raise InputError(
            f"tensor parallel {spec.tensor_parallel}: must divide num_attention_heads {shape.attention_heads}, and "
            f"divide num_key_value_heads {shape.cache.heads} or be a multiple of them"
        )
    parts = (weight_bytes(shape, spec), lora_bytes(shape, spec), activation_bytes(shape, spec), overhead_bytes(spec))
    usable = _usable(spec)
    room = max(usable - sum(parts), 0)
    return MemoryPlan(
        fits=_fits(shape, spec),
        parameters=shape.parameters,
        gpu_bytes=spec.gpu_bytes,
        usable_bytes=usable,
        weights_bytes=parts[0],
        lora_bytes=parts[1],
        activation_bytes=parts[2],
        overhead_bytes=parts[3],
        cache_needed_bytes=cache_bytes(shape.cache, spec),
        cache_room_bytes=room,
        free_bytes=usable - sum(parts) - cache_bytes(shape.cache, spec),
        bytes_per_token=token_bytes(shape.cache, spec),
        blocks=room // block_bytes(shape.cache, spec),
        blocks_per_request=blocks_per_request(shape.cache, spec),
        cache_tokens=cache_tokens(shape.cache, spec, room),
        largest_concurrency=_largest(shape, spec, "concurrency", MOST_REQUESTS),
        largest_context=_largest(shape, spec, "context", shape.longest or LONGEST),
        formula=cache_formula(shape.cache, spec),
        changes=() if _fits(shape, spec) else _changes(shape, spec),
        notes=(*shape.notes, *_notes(shape, spec)),
    )


def _divides(shape: ModelShape, ranks: int) -> bool:
    """Whether vLLM would divide the heads among so many ranks."""
    kv_heads = shape.cache.heads
    return shape.attention_heads % ranks == 0 and (kv_heads % ranks == 0 or ranks % kv_heads == 0)


def _usable(spec: MemorySpec) -> int:
    return int(spec.gpu_bytes * spec.utilization)


def _used(shape: ModelShape, spec: MemorySpec) -> int:
    fixed = weight_bytes(shape, spec) + lora_bytes(shape, spec) + activation_bytes(shape, spec) + overhead_bytes(spec)
    return fixed + cache_bytes(shape.cache, spec)


def _fits(shape: ModelShape, spec: MemorySpec) -> bool:
    return _used(shape, spec) <= _usable(spec) and not _too_long(shape, spec.context)


def _too_long(shape: ModelShape, context: int) -> bool:
    return shape.longest is not None and context > shape.longest


def _largest(shape: ModelShape, spec: MemorySpec, field: str, most: int) -> int:
    """The largest value of `field` with which it fits, by bisection: memory grows with it; 0 for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        fits = _fits(shape, spec.model_copy(update={field: middle}))
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _changes(shape: ModelShape, spec: MemorySpec) -> tuple[Change, ...]:
    """What is enough alone comes first; among equals what costs no quality, then what costs little, then money."""
    before = _used(shape, spec)
    lacking, found = before > _usable(spec), []
    for told, changed in _candidates(shape, spec):
        saved = before - _used(shape, changed)
        if saved > 0 and (lacking or _fits(shape, changed)):
            found.append(Change(change=told, saves_bytes=saved, enough=_fits(shape, changed)))
    return tuple(sorted(found, key=lambda change: not change.enough))


def _candidates(shape: ModelShape, spec: MemorySpec) -> Iterator[tuple[str, MemorySpec]]:
    """Every change that may help, from the cheapest to the dearest."""
    fewer = _largest(shape, spec, "concurrency", MOST_REQUESTS) or 1
    shorter = _largest(shape, spec, "context", shape.longest or LONGEST)
    if fewer < spec.concurrency:
        told = f"let {fewer} request{'s' * (fewer > 1)} in at once, queue the others"
        yield told, spec.model_copy(update={"concurrency": fewer})
    if 0 < shorter < spec.context:
        yield f"limit the context to {shorter:,} tokens", spec.model_copy(update={"context": shorter})
    if spec.lora_rank:
        yield "serve merged models in place of adapters", spec.model_copy(update={"lora_rank": 0})
    if spec.batched_tokens > SMALL_BATCH:
        told = f"batch {SMALL_BATCH:,} tokens a step: long prompts take longer"
        yield told, spec.model_copy(update={"batched_tokens": SMALL_BATCH})
    if cache_width(spec) > 1:
        yield "keep the cache in fp8", spec.model_copy(update={"kv_dtype": "fp8"})
    for precision in ("w8a8", "w4a16"):
        told = f"quantize the weights to {precision}, and measure the quality"
        yield told, spec.model_copy(update={"precision": precision})
    yield from _more_cards(shape, spec)


def _more_cards(shape: ModelShape, spec: MemorySpec) -> Iterator[tuple[str, MemorySpec]]:
    """The first division over more cards that is enough; where none is, the one over the most."""
    found = None
    for ranks in (spec.tensor_parallel * 2**power for power in range(1, 5)):
        if not _divides(shape, ranks):
            break
        found = f"divide the model over {ranks} cards", spec.model_copy(update={"tensor_parallel": ranks})
        if _fits(shape, found[1]):
            break
    if found:
        yield found


def _notes(shape: ModelShape, spec: MemorySpec) -> list[str]:
    notes = []
    if _too_long(shape, spec.context):
        notes.append(f"the context is longer than the {shape.longest:,} positions of the model")
    if not shape.cache.latent and spec.tensor_parallel > shape.cache.heads:
        notes.append(f"{spec.tensor_parallel} ranks share {shape.cache.heads} key-value heads: each keeps a whole one")
    if shape.cache.window_layers:
        notes.append(f"{shape.cache.window_layers} layers keep a window of {shape.cache.window:,} tokens only")
    if spec.precision.startswith(("hqq", "nf4")):
        notes.append(f"not every engine serves {spec.precision}: its weights are counted, its kernel is not checked")
    return notes
