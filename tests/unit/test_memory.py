"""The memory planner: cache, weights and ranks counted by hand, its limits, what to change, and the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evaluation.benches.modelling.planning import CONFIGURATIONS, planned_tokens
from flows.cli import app
from infra.errors import InputError
from infra.settings import ROOT
from models.quantizing.methods import WeightType
from models.serving.architectures import read_shape
from models.serving.footprint import (
    MemorySpec,
    blocks_per_request,
    cache_bytes,
    cache_tokens,
    lora_bytes,
    stored_bytes,
    weight_bytes,
)
from models.serving.gpus import GPUS, gpu_bytes
from models.serving.memory import plan_memory
from models.serving.rules_of_thumb import weight_table, worked_example
from models.serving.shapes import CacheShape, ModelShape

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


LOGGED = {
    "the starter": 16_384,
    "8 heads on 2, blocks of 32": 21_824,
    "one key-value head of 128": 34_432,
    "fp8 cache": 32_768,
    "32 bits": 16_384,
    "a length between blocks": 8_875,
    "12 layers, 16 bits of the other kind": 21_760,
    "Qwen3": 16_384,
    "a window in every layer (Mistral)": 149_796,
    "a window in every second layer (Gemma 2)": 35_813,
    "a window in five of six layers (Gemma 3)": 31_300,
    "latent attention (DeepSeek-V2)": 19_408,
}
"""`KV cache size: N tokens` in the log of vLLM 0.32 on the CPU, for each configuration of the bench."""


def shape(**changes: Any) -> ModelShape:
    return read_shape(LLAMA_8B | changes, "config.json")


def spec(**changes: Any) -> MemorySpec:
    return MemorySpec.model_validate({"gpu_bytes": GPUS["A100-80"], "context": 8192, "concurrency": 16} | changes)


def test_the_example_worked_by_hand() -> None:
    assert worked_example() == "16 × 8,192 × 32 × 2 × 4,096 × 2 = 68,719,476,736 bytes"
    without_groups = shape(num_key_value_heads=32)
    block = 16 * 32 * 2 * 4096 * 2
    assert cache_bytes(without_groups.cache, spec()) == 68_719_476_736 + block  # and the block that vLLM keeps back


def test_the_table_of_weights() -> None:
    told = {row["model"]: row for row in weight_table()}
    sizes = {name: (row["fp16_gb"], row["int8_gb"], row["int4_gb"]) for name, row in told.items()}
    assert sizes["7B"] == (14, 7, 3.5)
    assert sizes["405B"] == (810, 405, 202.5)
    cards = {name: row["fp16_cards"] for name, row in told.items()}
    assert cards == {
        "7B": "1 × A10G",
        "13B": "1 × A100-40",
        "34B": "1 × A100-80",
        "70B": "2 × A100-80",
        "405B": "16 × A100-80",
    }
    assert told["405B"]["int8_cards"] == "8 × A100-80"


def test_groups_and_fp8_shrink_the_cache() -> None:
    full = cache_bytes(shape(num_key_value_heads=32).cache, spec())
    assert cache_bytes(shape().cache, spec()) * 4 == full
    assert cache_bytes(shape().cache, spec(kv_dtype="fp8")) * 8 == full


def test_a_request_takes_whole_blocks() -> None:
    assert [blocks_per_request(shape().cache, spec(context=length)) for length in (1, 16, 17)] == [1, 1, 2]
    room = 10 * 16 * 131_072
    assert cache_tokens(shape().cache, spec(context=100), room) == int(10 / 7 * 100)


def test_tokens_of_the_cache_are_those_that_vllm_logs() -> None:
    assert {asked.name: planned_tokens(asked, "cpu") for asked in CONFIGURATIONS} == LOGGED


def test_a_build_that_schedules_ahead_keeps_more_of_a_window() -> None:
    """Window 512, steps of 256 tokens, blocks of 128: 7 blocks of 256 for a request on the CPU, 9 on CUDA."""
    told = {asked.name: planned_tokens(asked, "gpu") for asked in CONFIGURATIONS}
    assert told["a window in every layer (Mistral)"] == int(256 / 9 * 4096)
    assert {name for name in LOGGED if told[name] != LOGGED[name]} == {name for name in LOGGED if "window" in name}


def test_layers_with_a_window_keep_the_window() -> None:
    """Gemma 2's kind: 13 layers of each, one group each; two steps of 512 tokens under way."""
    cache = CacheShape(full_layers=13, window_layers=13, window=4096, heads=4, head_elements=512)
    short, long = (blocks_per_request(cache, spec(context=length, batched_tokens=512)) for length in (1024, 16_384))
    assert short == 64 + 65
    assert long == 1024 + (4096 - 1 + 2 * 512) // 16 + 1 + 1
    uneven = replace(cache, full_layers=5, window_layers=29)  # six groups of five layers for the windows
    assert blocks_per_request(uneven, spec(context=1024, batched_tokens=512)) == 64 + 6 * 65


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        ("fp32", 32),
        ("bf16", 16),
        ("fp8", 8 + 16 / 4096),
        ("w8a8", 8 + 16 / 4096),
        ("w4a16", 4 + 16 / 128),
        ("nf4", 4 + 8 / 64 + 32 / (64 * 256)),  # 0.127 bits of scales, as the QLoRA paper says
        ("hqq3", 3.2 + 32 / 64),
        ("hqq1", 1 + 32 / 64),
    ],
)
def test_bits_of_a_weight(precision: WeightType, bits: float) -> None:
    assert stored_bytes(4096, 4096, precision) == pytest.approx(4096 * 4096 * bits / 8, rel=1e-4)


def test_w4a16_is_what_compressed_tensors_writes() -> None:
    """Packed integers, scales and shape of one layer with 20 outputs and 64 inputs, groups of 32."""
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    packed = pack_to_int32(torch.zeros(20, 64, dtype=torch.int8), 4)
    scales = torch.zeros(20, 2, dtype=torch.bfloat16)
    parts = (packed, scales, torch.zeros(2, dtype=torch.int64))
    assert stored_bytes(20, 64, "w4a16", 32) == sum(part.numel() * part.element_size() for part in parts)


def test_head_and_embeddings_stay_in_16_bits() -> None:
    quantized, plain = weight_bytes(shape(), spec(precision="w8a8")), weight_bytes(shape(), spec())
    linears = sum(linear.parameters for linear in shape().linears)
    tables = 2 * (shape().embeddings + shape().head + shape().small)
    assert plain == 2 * shape().parameters
    assert quantized == pytest.approx(tables + linears, rel=1e-3)


def test_ranks_share_weights_and_heads() -> None:
    one, eight, sixteen = (spec(tensor_parallel=ranks) for ranks in (1, 8, 16))
    assert weight_bytes(shape(), eight) == pytest.approx(weight_bytes(shape(), one) / 8, rel=1e-3)
    assert cache_bytes(shape().cache, eight) * 8 == cache_bytes(shape().cache, one)
    assert cache_bytes(shape().cache, sixteen) == cache_bytes(shape().cache, eight)  # 8 heads: two ranks keep each
    told = plan_memory(shape(), sixteen)
    assert "16 ranks share 8 key-value heads: each keeps a whole one" in told.notes
    latent = replace(shape(), cache=CacheShape(full_layers=32, head_elements=576, latent=True))
    assert cache_bytes(latent.cache, eight) == cache_bytes(latent.cache, one)  # every rank keeps the latent vector
    for ranks in (3, 12):
        with pytest.raises(InputError, match=r"must divide num_attention_heads 32"):
            plan_memory(shape(), spec(tensor_parallel=ranks))


def test_slots_for_adapters() -> None:
    """One layer: queries and output 4096 → 4096, keys and values 4096 → 1024, three of 4096 and 14336."""
    layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)
    assert lora_bytes(shape(), spec(lora_rank=16, max_loras=4)) == 32 * layer * 16 * 4 * 2
    assert lora_bytes(shape(), spec()) == 0


@pytest.mark.parametrize("changes", [{}, {"precision": "w4a16"}, {"kv_dtype": "fp8"}, {"tensor_parallel": 4}])
def test_the_limits_are_the_last_that_fit(changes: dict[str, Any]) -> None:
    told = plan_memory(shape(), spec(**changes))
    for field, largest in (("concurrency", told.largest_concurrency), ("context", told.largest_context)):
        assert plan_memory(shape(), spec(**changes, **{field: largest})).fits
        assert not plan_memory(shape(), spec(**changes, **{field: largest + 1})).fits


def test_what_to_change_is_true_and_enough_comes_first() -> None:
    asked = spec(gpu_bytes=GPUS["L4"])
    told = plan_memory(shape(), asked)
    assert not told.fits
    assert told.free_bytes < 0
    enough = [change.enough for change in told.changes]
    assert enough == sorted(enough, reverse=True)
    assert told.changes[0].change == f"let {told.largest_concurrency} requests in at once, queue the others"
    saved = {change.change: change.saves_bytes for change in told.changes}
    fp8 = plan_memory(shape(), asked.model_copy(update={"kv_dtype": "fp8"}))
    assert saved["keep the cache in fp8"] == fp8.free_bytes - told.free_bytes
    assert plan_memory(shape(), spec()).changes == ()


def test_weights_that_do_not_fit_at_all() -> None:
    told = plan_memory(shape(), spec(gpu_bytes=gpu_bytes("8GiB")))
    assert (told.fits, told.largest_concurrency, told.largest_context, told.cache_tokens) == (False, 0, 0, 0)
    assert [change.change for change in told.changes if change.enough] == ["divide the model over 8 cards"]


def test_a_context_beyond_the_positions_does_not_fit() -> None:
    told = plan_memory(shape(max_position_embeddings=4096), spec())
    assert not told.fits
    assert [change.change for change in told.changes] == ["limit the context to 4,096 tokens"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("A100-80GB", 81_920 * 2**20),
        ("NVIDIA A100", 81_920 * 2**20),
        ("a100 40gb", 40_960 * 2**20),
        ("rtx4090", 24_564 * 2**20),
        ("24GiB", 24 * 2**30),
        ("80 GB", 80 * 10**9),
        ("85899345920", 85_899_345_920),
    ],
)
def test_cards_by_name_and_size(name: str, size: int) -> None:
    assert gpu_bytes(name) == size


@pytest.mark.parametrize("name", ["", "A1000", "24", "-3GB", "GB"])
def test_a_card_that_is_not_known(name: str) -> None:
    with pytest.raises(InputError, match="give"):
        gpu_bytes(name)


def sluice(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan-memory", *arguments])


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B), "utf-8")
    asked = ("--model", str(tmp_path), "--gpu", "L4", "--context", "8192", "--concurrency", "16")
    told = json.loads(sluice(*asked, "--json").stdout)
    assert told["formula"] == "16 × 8,192 × 32 × 2 × 1,024 × 2 = 17,179,869,184 bytes"
    assert told["fits"] is False
    seen = sluice(*asked, "--kv-dtype", "fp8", "--dtype", "w4a16").stdout
    assert "8.03 billion parameters, w4a16" in " ".join(seen.split())
    assert "fits: 16 at once of 8,192 tokens" in seen


def test_the_command_without_a_model() -> None:
    seen = sluice().stdout
    assert "= 68,719,476,736 bytes" in " ".join(seen.split())
    assert "405B" in seen
    assert [row["model"] for row in json.loads(sluice("--json").stdout)["table"]] == ["7B", "13B", "34B", "70B", "405B"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "starter"], "--gpu: name the card"),
        (["--model", "nowhere", "--gpu", "T4"], "nowhere/config.json is not there"),
        (["--model", "starter", "--gpu", "T4", "--precision", "w2"], "--precision: Input should be"),
        (["--model", "starter", "--gpu", "T4", "--context", "0"], "--context: Input should be greater"),
        (["--model", str(ROOT / "docs"), "--gpu", "T4"], "docs/config.json is not there"),
    ],
)
def test_misuse_is_one_line(arguments: list[str], says: str) -> None:
    seen = sluice(*arguments)
    assert seen.exit_code == 2
    assert says in seen.stderr
    assert seen.stdout == ""
