"""Rows of the memory planner: tokens of cache that it predicts beside those that vLLM logs, over model families."""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.benches import BenchRow
from infra.errors import SetupError, TryAgainError
from infra.settings import Settings
from models.base import STARTER_FOLDER
from models.quantizing.methods import WeightType
from models.serving.architectures import read_shape
from models.serving.capacity import STEPS_IN_FLIGHT
from models.serving.footprint import CacheType, MemorySpec, cache_tokens
from models.serving.vllm import Build, engine_environment, vllm_build

SCRIPT = Path(__file__).with_name("capacity.py")
LOGGED = re.compile(r"KV cache size: ([\d,]+) tokens")
TIMEOUT_S = 1800
"""Twelve engines take about a minute on an idle machine."""
BATCHED = 256
"""Tokens of one step."""


@dataclass(frozen=True)
class Asked:
    """A model and how it is served."""

    name: str
    model: dict[str, Any]
    """What its config.json says beside the vocabulary and the special tokens of the starter."""
    context: int
    cache_mib: float
    block: int = 128
    dtype: WeightType = "bf16"
    kv: CacheType = "auto"
    extra: dict[str, Any] = field(default_factory=dict)


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, size: int, kind: str = "llama") -> dict[str, Any]:
    return {
        "model_type": kind,
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": size,
        "max_position_embeddings": 8192,
    }


LATENT = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 3,
    "n_group": 1,
    "topk_group": 1,
}
MISTRAL = {"architectures": ["MistralForCausalLM"], "sliding_window": 512}
GEMMA2 = {"architectures": ["Gemma2ForCausalLM"], "sliding_window": 512, "query_pre_attn_scalar": 64}
GEMMA3 = GEMMA2 | {"architectures": ["Gemma3ForCausalLM"], "sliding_window_pattern": 6}
QWEN = {"architectures": ["Qwen3ForCausalLM"]}

CONFIGURATIONS = (
    Asked("the starter", _llama(256, 4, 4, 4, 64), context=2048, cache_mib=64),
    Asked("8 heads on 2, blocks of 32", _llama(256, 6, 8, 2, 64), context=1024, cache_mib=64, block=32),
    Asked("one key-value head of 128", _llama(256, 3, 8, 1, 128), context=4096, cache_mib=50.5, block=64),
    Asked("fp8 cache", _llama(256, 4, 4, 4, 64), context=2048, cache_mib=64, kv="fp8"),
    Asked("32 bits", _llama(256, 4, 4, 2, 64), context=512, cache_mib=64, dtype="fp32"),
    Asked("a length between blocks", _llama(256, 5, 4, 2, 96), context=1000, cache_mib=33.3),
    Asked("12 layers, 16 bits of the other kind", _llama(192, 12, 6, 3, 32), context=8192, cache_mib=96, dtype="fp16"),
    Asked("Qwen3", _llama(256, 4, 4, 2, 128, "qwen3") | QWEN, context=2048, cache_mib=64),
    Asked("a window in every layer (Mistral)", _llama(256, 4, 4, 2, 64, "mistral") | MISTRAL, 4096, 64),
    Asked("a window in every second layer (Gemma 2)", _llama(256, 6, 4, 2, 64, "gemma2") | GEMMA2, 4096, 64),
    Asked("a window in five of six layers (Gemma 3)", _llama(256, 12, 4, 2, 64, "gemma3_text") | GEMMA3, 4096, 64),
    Asked("latent attention (DeepSeek-V2)", _llama(256, 3, 4, 4, 64, "deepseek_v2") | LATENT, 2048, 64, block=16),
)
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def planning_rows(settings: Settings) -> list[BenchRow]:
    """`planner_error`, the worst relative error, then a row for each configuration: tokens, vLLM's as the peer.

    Raises: SetupError where vLLM is missing or did not say a size, TryAgainError where it takes too long.
    """
    with tempfile.TemporaryDirectory() as place:
        logged = logged_tokens(settings, Path(place))
    rows, errors, build = [], [], vllm_build(settings)
    for asked in CONFIGURATIONS:
        planned, real = planned_tokens(asked, build), logged[asked.name]
        errors.append(abs(planned - real) / real)
        name = f"planner: {asked.name}"
        rows.append(
            BenchRow(name=name, value=planned, unit="tokens", peer="vLLM", peer_value=real, ratio=planned / real)
        )
    return [BenchRow(name="planner_error", value=max(errors), unit="share", peer="vLLM"), *rows]


def _config(asked: Asked) -> dict[str, Any]:
    """config.json of the model: the starter's vocabulary, so that its tokenizer fits."""
    starter: dict[str, Any] = json.loads((STARTER_FOLDER / "config.json").read_text("utf-8"))
    taken = {name: starter[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    return asked.model | taken


def planned_tokens(asked: Asked, build: Build) -> int:
    """What the planner says that the cache of this build of vLLM holds."""
    shape = read_shape(_config(asked), asked.name)
    room = int(asked.cache_mib * 2**20)
    spec = MemorySpec(
        gpu_bytes=2 * room,
        context=asked.context,
        precision=asked.dtype,
        kv_dtype=asked.kv,
        block_size=asked.block,
        batched_tokens=BATCHED,
        steps_in_flight=STEPS_IN_FLIGHT[build],
    )
    return cache_tokens(shape.cache, spec, room)


def logged_tokens(settings: Settings, place: Path) -> dict[str, int]:
    """What vLLM logs for each configuration, in one process of the engine's environment."""
    if not (build := vllm_build(settings)):
        raise SetupError(f"{settings.engine_python}: no vLLM to compare with; run make setup")
    asked = [{"name": one.name, "arguments": _arguments(one, place / str(at))} for at, one in enumerate(CONFIGURATIONS)]
    try:
        done = subprocess.run(
            [settings.engine_python, SCRIPT],
            input=json.dumps(asked),
            env=engine_environment(settings, build) | {"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TryAgainError(
            f"bench: {len(asked)} engines did not start within {TIMEOUT_S} s; is the machine busy?"
        ) from error
    found = {}
    for part in re.split(r"^== ", done.stdout, flags=re.MULTILINE)[1:]:
        name = part.splitlines()[0]
        sizes = LOGGED.findall(part)
        if not sizes:
            raise SetupError(f"bench: vLLM logged no cache size for {name!r}: {done.stderr[-1500:]}")
        found[name] = int(sizes[-1].replace(",", ""))
    return found


def _arguments(asked: Asked, folder: Path) -> dict[str, Any]:
    """What `LLM` gets: random weights on the configuration, written into `folder` beside the starter's tokenizer."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_config(asked)), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((STARTER_FOLDER / name).read_bytes())
    return {
        "model": str(folder),
        "load_format": "dummy",
        "dtype": DTYPES[asked.dtype],
        "kv_cache_dtype": asked.kv,
        "kv_cache_memory_bytes": int(asked.cache_mib * 2**20),
        "block_size": asked.block,
        "max_model_len": asked.context,
        "max_num_batched_tokens": BATCHED,
        "max_num_seqs": 4,
        "enforce_eager": True,
        **asked.extra,
    }
