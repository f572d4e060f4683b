"""The methods of training: how the base is held for each, and which adapter is put on it."""

from pathlib import Path
from typing import Any

from infra.errors import InputError
from models.training.spec import TrainSpec


def open_base(base_folder: Path, method: str) -> Any:
    """The base as `method` holds it: float32 where every weight is trained, NF4 for qlora, otherwise bf16."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import BitsAndBytesConfig

    quantization: Any = BitsAndBytesConfig
    four_bit = quantization(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        base_folder,
        dtype=torch.float32 if method == "full" else torch.bfloat16,
        device_map={"": "cuda:0" if torch.cuda.is_available() else "cpu"},
        quantization_config=four_bit if method == "qlora" else None,
        local_files_only=True,
    )


def linear_layers(model: Any) -> list[str]:
    """Names of the linear layers inside the blocks (`q_proj`, `down_proj`, …), all but the head."""
    import torch

    head = model.get_output_embeddings()
    layers = (
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head
    )
    return sorted({name.rpartition(".")[2] for name in layers})


def low_rank(model: Any, rank: int, alpha: int) -> Any:
    """A LoRA adapter (Hu et al. 2021) on every linear layer of the blocks."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=linear_layers(model), task_type="CAUSAL_LM"
    )


def adapter_of(model: Any, spec: TrainSpec) -> Any:
    """The adapter's configuration; None where every weight is trained.

    Prefix tuning: Li & Liang 2021, without reparametrization. IA3: Liu et al. 2022.
    Raises: InputError for an architecture whose IA3 layers are not known.
    """
    from peft import IA3Config, PrefixTuningConfig
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING

    if spec.method == "full":
        return None
    if spec.method == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=spec.virtual_tokens, task_type="CAUSAL_LM")
    if spec.method == "ia3":
        kind = model.config.model_type
        if kind not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
            known = ", ".join(sorted(TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING))
            raise InputError(f"training.method: ia3 is not known for models of type {kind} (only {known}); take lora")
        return IA3Config(task_type="CAUSAL_LM")
    return low_rank(model, spec.rank, spec.alpha)


def train_in_float32(model: Any) -> None:
    """Hold what is trained in float32: bf16 would lose small steps."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
