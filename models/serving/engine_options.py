"""What makes an engine faster or larger, as vLLM's arguments: speculation, several cards, memory outside of them."""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from infra.errors import SetupError
from infra.settings import Spec
from models.serving.control import check_weights


class SpeculationSpec(Spec):
    """Tokens are guessed and checked several at a time: the same text, faster where guesses hit."""

    method: Literal["ngram", "draft"]
    """ngram: what followed the same words before, in prompt and answer; draft: a smaller model with the same tokens."""
    tokens: int = Field(ge=1, le=32)
    """Tokens that are guessed at once."""
    lookup_min: int = Field(1, ge=1, le=32)
    """ngram: fewest words in a row that must have come before."""
    lookup_max: int = Field(4, ge=1, le=32)
    """ngram: most words in a row that are looked for."""
    model: str = ""
    """draft: folder of the smaller model, with safetensors."""

    @model_validator(mode="after")
    def _whole(self) -> "SpeculationSpec":
        if (self.method == "draft") != bool(self.model):
            raise ValueError("speculation.model is the folder of the draft model: set it for `draft`, and only there")
        if self.lookup_min > self.lookup_max:
            raise ValueError("speculation.lookup_min is above lookup_max")
        return self


class EngineOptions(Spec):
    """The part of section `engine` that only vLLM can do."""

    speculation: SpeculationSpec | None = None
    """Null: each token is computed alone."""
    prefix_caching: bool = True
    """What two prompts share at their beginning is computed once."""
    prefill_tokens: int | None = Field(None, ge=64, le=1_048_576)
    """Prompt tokens in one step, so that long prompts do not hold up answers that are being written; null: vLLM's."""
    tensor_parallel: int = Field(1, ge=1, le=64)
    """Cards that share each layer."""
    pipeline_parallel: int = Field(1, ge=1, le=64)
    """Groups of cards that share the layers."""
    kv_offload_gib: float | None = Field(None, gt=0, le=4096)
    """Memory of the machine that takes cached keys and values that the card has no room for; null: none."""

    @property
    def beyond_cpu(self) -> list[str]:
        """Names of the fields that are set and need cards."""
        wanted = {
            "tensor_parallel": self.tensor_parallel > 1,
            "pipeline_parallel": self.pipeline_parallel > 1,
            "kv_offload_gib": self.kv_offload_gib is not None,
        }
        return [name for name, is_set in wanted.items() if is_set]

    @property
    def beyond_transformers(self) -> list[str]:
        """Names of the fields that are set and need vLLM."""
        wanted = {
            "speculation": self.speculation is not None,
            "prefill_tokens": self.prefill_tokens is not None,
        }
        return [*self.beyond_cpu, *(name for name, is_set in wanted.items() if is_set)]


def option_arguments(options: EngineOptions, build: str) -> list[str]:
    """vLLM's arguments for these options.

    Raises: SetupError for what this build cannot do, and for a draft model that is missing; InputError for one that is
    not safetensors.
    """
    if build == "cpu" and options.beyond_cpu:
        raise SetupError(
            f"engine.{options.beyond_cpu[0]}: the engine environment holds the CPU build of vLLM, which has no cards; "
            "leave it out, or install a GPU build"
        )
    arguments = [] if options.prefix_caching else ["--no-enable-prefix-caching"]
    if options.prefill_tokens is not None:
        arguments += ["--enable-chunked-prefill", "--max-num-batched-tokens", str(options.prefill_tokens)]
    if options.tensor_parallel > 1:
        arguments += ["--tensor-parallel-size", str(options.tensor_parallel)]
    if options.pipeline_parallel > 1:
        arguments += ["--pipeline-parallel-size", str(options.pipeline_parallel)]
    if options.kv_offload_gib is not None:
        arguments += ["--kv-offloading-size", f"{options.kv_offload_gib:g}"]
    if options.speculation is not None:
        arguments += ["--speculative-config", json.dumps(_speculation(options.speculation), sort_keys=True)]
    return arguments


def _speculation(spec: SpeculationSpec) -> dict[str, str | int]:
    if spec.method == "ngram":
        return {
            "method": "ngram",
            "num_speculative_tokens": spec.tokens,
            "prompt_lookup_min": spec.lookup_min,
            "prompt_lookup_max": spec.lookup_max,
        }
    folder = Path(spec.model).expanduser().resolve()
    check_weights(folder, "*.safetensors")
    return {"method": "draft_model", "model": str(folder), "num_speculative_tokens": spec.tokens}
