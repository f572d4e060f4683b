"""Supervised fine-tuning by trl: every method, on answers only, resumable after kill -9, merged into the bf16 base."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from infra.store import value_digest
from models.training.adapters import base_name, check_model_folder, fresh, merge_adapter, save_adapter, save_model
from models.training.batches import Coder, Encoded, examples, fitting, packs, row_order
from models.training.dataset import Dataset
from models.training.methods import adapter_of, open_base, train_in_float32
from models.training.quiet import one_thread, quiet_libraries
from models.training.running import Batch, arguments, run
from models.training.spec import TrainSpec
from models.training.watching import Progress, Watch, callback, validation_losses


class TrainReport(BaseModel):
    """What a training run made. Seconds and tokens count this process only, not what a killed one did before."""

    model_config = ConfigDict(frozen=True)

    adapter: Path | None
    """Folder of the adapter; None where every weight was trained. lora and qlora: an engine loads it as LoRA."""
    merged: Path | None
    """Folder of the whole model in bf16; None for prefix tuning, which no weight can hold."""
    rows: int
    rows_too_long: int
    steps: int
    """Optimizer steps done; fewer than planned where the run stopped early."""
    tokens: int
    """Tokens of the rows seen, epochs counted."""
    tokens_per_second: float
    losses: list[tuple[int, float]]
    """(step, loss on the answers in nats a token), also those of a run before the kill."""
    validation_losses: list[tuple[int, float]] = []
    best_step: int | None = None
    """The step whose weights were taken; None: the last."""
    trained_parameters: int
    seconds: float
    resumed_from_step: int = 0
    notes: list[str] = []
    """What a person should know: what stood in for what, where memory ran out, why it ended."""


class Prepared(NamedTuple):
    """Rows as tokens and the order in which they are seen: groups of rows, one row each unless packed."""

    rows: list[Encoded]
    validation: list[Encoded]
    order: list[list[int]]
    coder: Coder

    @property
    def tokens(self) -> int:
        return sum(len(self.rows[index].ids) for group in self.order for index in group)


def train(base_folder: Path, dataset: Dataset, spec: TrainSpec, work_folder: Path, progress: Progress) -> TrainReport:
    """Train by `spec.method` on `dataset.rows`: `work_folder/adapter`, `work_folder/merged`, or both.

    On a CPU the same inputs give the same bytes, also when the run was killed and started again on its work folder.
    Raises: SetupError for a base folder that is no model and for too little memory; InputError for rows that cannot be
    learnt from, a chat template that does not mark the answers, a damaged weights file, and a run that went wrong.
    """
    check_model_folder(base_folder)
    if not dataset.rows:
        raise InputError("training: no rows to learn from; check the train split of the cases and the corpus questions")
    work_folder.mkdir(parents=True, exist_ok=True)
    with quiet_libraries(), one_thread():
        started = time.monotonic()
        base = base_name(base_folder)
        parts = [[row.model_dump() for row in part] for part in (dataset.rows, dataset.validation)]
        identity = value_digest([base, spec.model_dump(exclude={"preference"}), *parts])
        prepared = prepare(base_folder, dataset, spec)
        ran = run(
            lambda batch: trainer_of(base_folder, prepared, spec, batch, work_folder, progress, identity),
            spec,
            "training",
            work_folder,
            identity,
        )
        adapter, merged = _saved(ran.trainer.model, base_folder, base, spec, work_folder)
    state, notes = ran.trainer.state, [*prepared.coder.notes, *ran.notes, *_endings(ran.trainer, prepared, spec)]
    done = state.global_step / max(state.max_steps, 1)
    here = (state.global_step - ran.resumed_from_step) / max(state.max_steps, 1)
    return TrainReport(
        adapter=adapter,
        merged=merged,
        rows=len(prepared.rows),
        rows_too_long=len(dataset.rows) - len(prepared.rows),
        steps=state.global_step,
        tokens=round(prepared.tokens * done),
        tokens_per_second=prepared.tokens * here / ran.seconds,
        losses=[(entry["step"], entry["loss"]) for entry in state.log_history if "loss" in entry],
        validation_losses=validation_losses(state.log_history),
        best_step=state.best_global_step if spec.patience else None,
        trained_parameters=sum(p.numel() for p in ran.trainer.model.parameters() if p.requires_grad),
        seconds=time.monotonic() - started,
        resumed_from_step=ran.resumed_from_step,
        notes=notes,
    )


def prepare(base_folder: Path, dataset: Dataset, spec: TrainSpec) -> Prepared:
    """Encode the rows, leave out what is too long, and fix their order."""
    coder = Coder(base_folder)
    rows = fitting(coder, dataset.rows, spec.max_length)
    validation = fitting(coder, dataset.validation, spec.max_length) if spec.evaluation_steps else []
    lengths = [len(row.ids) for row in rows]
    if spec.packing:
        order = packs(lengths, spec.epochs, spec.max_length, spec.seed)
    else:
        order = [[index] for index in row_order(lengths, spec.epochs, spec.batch_size, spec.seed)]
    return Prepared(rows, validation, order, coder)


def trainer_of(
    base_folder: Path,
    prepared: Prepared,
    spec: TrainSpec,
    batch: Batch,
    work_folder: Path,
    progress: Progress,
    identity: str,
) -> Any:
    """The trl trainer over prepared rows; what it trains is held in float32."""
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    looks = bool(spec.evaluation_steps and prepared.validation)
    stops = bool(looks and spec.patience)
    steps = math.ceil(len(prepared.order) / (batch.size * batch.accumulation))
    shared = arguments(spec, batch, work_folder, spec.rate, steps)
    if stops:
        shared |= {"save_steps": spec.evaluation_steps, "load_best_model_at_end": True}
        shared |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    config = SFTConfig(
        **shared,
        weight_decay=spec.weight_decay,
        max_length=None,
        padding_free=spec.packing,
        dataset_kwargs={"skip_prepare_dataset": True},
        eval_strategy="steps" if looks else "no",
        eval_steps=spec.evaluation_steps or None,
    )
    model = open_base(base_folder, spec.method)
    patience = spec.patience if stops else 0
    watch = Watch(progress, identity, spec, "training", patience, spec.least_improvement)
    alone = [[index] for index in range(len(prepared.validation))]
    trainer: Any = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Rows.from_list(examples(prepared.rows, prepared.order, packed=spec.packing)),
        eval_dataset=Rows.from_list(examples(prepared.validation, alone, packed=False)) if looks else None,
        processing_class=prepared.coder.tokenizer,
        peft_config=adapter_of(model, spec),
        callbacks=[callback(watch)],
    )
    trainer.remove_callback(PrinterCallback)
    train_in_float32(trainer.model)
    return trainer


def _endings(trainer: Any, prepared: Prepared, spec: TrainSpec) -> list[str]:
    """How early stopping ended, where it was asked for."""
    state = trainer.state
    if spec.evaluation_steps and not prepared.validation:
        return ["no validation rows: nothing was looked at while the training ran, and nothing could stop it early"]
    if not spec.patience:
        return []
    taken = f"the weights of step {state.best_global_step} were taken, validation loss {state.best_metric:.4f}"
    if state.global_step < state.max_steps:
        return [f"stopped early at step {state.global_step} of {state.max_steps}; {taken}"]
    return [f"ran to its end; {taken}"]


def _saved(
    model: Any, base_folder: Path, base: str, spec: TrainSpec, work_folder: Path
) -> tuple[Path | None, Path | None]:
    """The adapter and the whole model on disk; what a method has no form for is None."""
    merged = fresh(work_folder / "merged")
    if spec.method == "full":
        save_model(model, base_folder, merged)
        return None, merged
    adapter = fresh(work_folder / "adapter")
    save_adapter(model, adapter, base)
    if spec.method == "prefix":
        merged.rmdir()
        return adapter, None
    merge_adapter(base_folder, adapter, merged)
    return adapter, merged
