"""Supervised fine-tuning: QLoRA (NF4) or LoRA on answers only, resumable after kill -9, merged into the bf16 base."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.errors import InputError
from infra.settings import Spec
from infra.store import value_digest
from models.training.adapters import base_name, check_model_folder, merge_adapter, save_adapter
from models.training.batches import Prepared, chat_of, check_labels, prepare
from models.training.checkpoints import last_whole, seal
from models.training.quiet import one_thread, quiet_libraries
from models.training.rows import TrainingRow

Progress = Callable[[int, int, float], None]
"""Called after each optimizer step with (step, steps in all, loss)."""


class TrainSpec(Spec):
    """How the adapter is trained."""

    method: Literal["qlora", "lora"] = "qlora"
    """qlora holds the frozen base in 4 bits (NF4, double quantization); lora holds it in bf16."""
    rank: int = Field(16, ge=1, le=16)
    """Rank of the adapter matrices; the engine serves adapters up to rank 16."""
    alpha: int = Field(32, ge=1, le=256)
    """Scale of the adapter: its product is multiplied by alpha / rank."""
    learning_rate: float = Field(1e-3, gt=0, le=0.1)
    """Peak learning rate of AdamW; it rises linearly over the warm-up and falls along a cosine to zero."""
    epochs: int = Field(2, ge=1, le=100)
    """How often every row is seen."""
    batch_size: int = Field(8, ge=1, le=512)
    """Rows in one forward pass."""
    gradient_accumulation: int = Field(1, ge=1, le=256)
    """Forward passes in one optimizer step."""
    max_length: int = Field(1024, ge=64, le=131072)
    """Longest row in tokens; longer rows are left out and counted."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0, le=1)
    """AdamW weight decay on the adapter."""
    seed: int = Field(0, ge=0)
    """Seed of the adapter's start and of the row order."""
    checkpoint_steps: int = Field(20, ge=1)
    """Optimizer steps between two checkpoints; a killed run goes on from the last whole one."""


class TrainReport(BaseModel):
    """What a training run made. Seconds and tokens count this process only, not what a killed one did before."""

    model_config = ConfigDict(frozen=True)

    adapter: Path
    """Folder that an engine loads as LoRA."""
    merged: Path
    """Folder of the whole model in bf16."""
    rows: int
    rows_too_long: int
    steps: int
    tokens: int
    """Tokens of all rows, epochs counted."""
    tokens_per_second: float
    losses: list[tuple[int, float]]
    """(step, loss on the answers in nats a token), also those of a run before the kill."""
    seconds: float
    resumed_from_step: int = 0


def train_adapter(
    base_folder: Path, rows: Sequence[TrainingRow], spec: TrainSpec, work_folder: Path, progress: Progress
) -> TrainReport:
    """Train an adapter on `rows` and merge it: `work_folder/adapter` and `work_folder/merged`.

    On a CPU the same inputs give the same bytes, also when the run was killed and started again on its work folder.
    Raises: SetupError for a base folder that is no model; InputError for rows that cannot be learnt from, a chat
    template that does not mark the answers, and a loss that is no longer a number.
    """
    check_model_folder(base_folder)
    if not rows:
        raise InputError("training: no rows to learn from; check the train split of the cases and the corpus questions")
    work_folder.mkdir(parents=True, exist_ok=True)
    with quiet_libraries(), one_thread():
        started = time.monotonic()
        base = base_name(base_folder)
        identity = value_digest([base, spec.model_dump(), [row.model_dump() for row in rows]])
        prepared = prepare(base_folder, rows, spec.epochs, spec.batch_size, spec.max_length, spec.seed)
        trainer = _trainer(base_folder, prepared, spec, work_folder, _watcher(progress, identity))
        check_labels(trainer.train_dataset, prepared)
        resumed = last_whole(work_folder, identity)
        training = time.monotonic()
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        trained = time.monotonic() - training
        adapter, merged = _fresh(work_folder / "adapter"), _fresh(work_folder / "merged")
        save_adapter(trainer.model, adapter, base)
        merge_adapter(base_folder, adapter, merged)
    first = int(resumed.name.rpartition("-")[2]) if resumed else 0
    share = 1 - first / max(trainer.state.max_steps, 1)
    return TrainReport(
        adapter=adapter,
        merged=merged,
        rows=len(prepared.rows),
        rows_too_long=len(rows) - len(prepared.rows),
        steps=trainer.state.max_steps,
        tokens=prepared.tokens,
        tokens_per_second=prepared.tokens * share / trained,
        losses=[(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        seconds=time.monotonic() - started,
        resumed_from_step=first,
    )


def _fresh(folder: Path) -> Path:
    """The folder, emptied of what a killed run may have left."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def _base_model(base_folder: Path, spec: TrainSpec) -> Any:
    """The frozen base: in NF4 with double quantization, or in bf16."""
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
        dtype=torch.bfloat16,
        device_map={"": "cuda:0" if torch.cuda.is_available() else "cpu"},
        quantization_config=four_bit if spec.method == "qlora" else None,
        local_files_only=True,
    )


def _linear_layers(model: Any) -> list[str]:
    """Names of the linear layers inside the blocks (`q_proj`, `down_proj`, …), all but the head."""
    import torch

    head = model.get_output_embeddings()
    layers = (
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head
    )
    return sorted({name.rpartition(".")[2] for name in layers})


def _trainer(base_folder: Path, prepared: Prepared, spec: TrainSpec, work_folder: Path, watcher: Any) -> Any:
    """The trl trainer, its data tokenized and its adapter in float32 (bf16 would lose small steps)."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    chats = [{"messages": chat_of(prepared.rows[index])} for index in prepared.order]
    steps = math.ceil(len(chats) / (spec.batch_size * spec.gradient_accumulation))
    config = SFTConfig(
        output_dir=str(work_folder),
        assistant_only_loss=True,
        max_length=spec.max_length,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation,
        gradient_checkpointing=False,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(steps * spec.warmup_share),
        weight_decay=spec.weight_decay,
        optim="adamw_torch",
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        seed=spec.seed,
        save_strategy="steps",
        save_steps=spec.checkpoint_steps,
        save_only_model=False,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model = _base_model(base_folder, spec)
    adapter = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=0.0,
        target_modules=_linear_layers(model),
        task_type="CAUSAL_LM",
    )
    try:
        trainer: Any = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(chats),
            processing_class=prepared.tokenizer,
            peft_config=adapter,
            callbacks=[watcher],
        )
    except (ValueError, RuntimeError) as error:
        if "template" in str(error) or "assistant" in str(error):
            raise InputError(f"{base_folder}: chat template without {{% generation %}} marks: {error}") from error
        raise
    trainer.remove_callback(PrinterCallback)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return trainer


def _watcher(progress: Progress, identity: str) -> Any:
    """Callback of the trainer: reports steps, stops at a loss that is no number, seals checkpoints."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
                raise InputError(
                    f"training: the loss is {logs['loss']} at step {state.global_step};"
                    " lower training.learning_rate or look at the rows; nothing was kept"
                )
            progress(state.global_step, state.max_steps, logs["loss"])

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", identity)

    return Watcher()
