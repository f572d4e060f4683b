"""On-policy distillation: the student answers, and learns the teacher's distribution over every next token.

The loss is the generalized Jensen-Shannon divergence of Agarwal et al., On-Policy Distillation of Language Models
(ICLR 2024), by trl's GKDTrainer. Resumable after kill -9: what the student samples is part of every checkpoint's state.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from infra.store import value_digest
from models.training.adapters import base_name, check_model_folder, copy_tokenizer, make_readable
from models.training.batches import Prepared, prepare
from models.training.checkpoints import last_whole
from models.training.distill_batches import Collator, examples
from models.training.distill_pair import check_same_tokens
from models.training.distill_spec import LogitSpec
from models.training.quiet import one_thread, quiet_libraries
from models.training.rows import TrainingRow
from models.training.sft import Progress, _fresh, _watcher


class DistillReport(BaseModel):
    """What a distillation made. Seconds count this process only, not what a killed one did before."""

    model_config = ConfigDict(frozen=True)

    student: Path
    """Folder of the whole student in bf16."""
    rows: int
    rows_too_long: int
    steps: int
    losses: list[tuple[int, float]]
    """(step, divergence in nats a token), also those of a run before the kill."""
    seconds: float
    resumed_from_step: int = 0


def distill_logits(
    student: Path, teacher: Path, rows: Sequence[TrainingRow], spec: LogitSpec, work_folder: Path, progress: Progress
) -> DistillReport:
    """Train all weights of `student` towards the teacher's next-token distributions: `work_folder/student`.

    A share `spec.on_policy` of the steps looks at replies that the student samples itself, the rest at those of the
    rows. On a CPU the same inputs give the same bytes, also when the run was killed and started again.
    Raises: SetupError for a folder that is no model; InputError for models with other tokens, rows that cannot be
    learnt from and a loss that is no longer a number.
    """
    check_model_folder(student)
    check_model_folder(teacher)
    if not rows:
        raise InputError("distillation: no rows to learn from; check the train split of the cases")
    check_same_tokens(student, teacher)
    work_folder.mkdir(parents=True, exist_ok=True)
    training = spec.training
    with quiet_libraries(), one_thread():
        started = time.monotonic()
        names = [base_name(student), base_name(teacher)]
        identity = value_digest([names, spec.model_dump(), [row.model_dump() for row in rows]])
        prepared = prepare(student, rows, training.epochs, training.batch_size, training.max_length, training.seed)
        trainer = _trainer(student, teacher, prepared, spec, work_folder, _watcher(progress, identity))
        resumed = last_whole(work_folder, identity)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        made = _saved(trainer.model, student, _fresh(work_folder / "student"))
    return DistillReport(
        student=made,
        rows=len(prepared.rows),
        rows_too_long=len(rows) - len(prepared.rows),
        steps=trainer.state.max_steps,
        losses=[(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        seconds=time.monotonic() - started,
        resumed_from_step=int(resumed.name.rpartition("-")[2]) if resumed else 0,
    )


def _saved(model: Any, source: Path, target: Path) -> Path:
    """The model as bf16 safetensors with the tokenizer of `source`."""
    import torch

    model.to(torch.bfloat16).save_pretrained(target)
    copy_tokenizer(source, target)
    make_readable(target)
    return target


def _loaded(folder: Path, dtype: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": device}, local_files_only=True)


def _trainer(student: Path, teacher: Path, prepared: Prepared, spec: LogitSpec, work_folder: Path, watcher: Any) -> Any:
    """trl's trainer over prepared tokens. The student's weights are float32: bf16 would lose small steps."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    training, on_gpu = spec.training, torch.cuda.is_available()
    data = examples(prepared, training.seed)
    steps = math.ceil(len(data) / (training.batch_size * training.gradient_accumulation))
    config = GKDConfig(
        output_dir=str(work_folder),
        beta=spec.beta,
        lmbda=spec.on_policy,
        temperature=spec.temperature,
        max_new_tokens=spec.max_new_tokens,
        max_length=training.max_length,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        gradient_checkpointing=False,
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(steps * training.warmup_share),
        weight_decay=training.weight_decay,
        optim="adamw_torch",
        bf16=on_gpu,
        use_cpu=not on_gpu,
        seed=training.seed,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_only_model=False,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer: Any = GKDTrainer(
        model=_loaded(student, torch.float32),
        teacher_model=_loaded(teacher, torch.bfloat16 if on_gpu else torch.float32),
        args=config,
        data_collator=Collator(prepared.tokenizer.pad_token_id),  # type: ignore[arg-type]
        train_dataset=Dataset.from_list(data),
        processing_class=prepared.tokenizer,
        callbacks=[watcher],
    )
    trainer.model_accepts_loss_kwargs = False  # else the loss of sampled replies is shared among the rows' own tokens
    trainer.remove_callback(PrinterCallback)
    return trainer
