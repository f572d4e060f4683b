"""One run of a trl trainer: the arguments that all trainings share, resuming, and less at once when memory runs out."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from infra.errors import SetupError
from models.training.checkpoints import last_whole
from models.training.watching import Limits


class RunSpec(Limits, Protocol):
    """What the specs of all trainings have."""

    @property
    def batch_size(self) -> int: ...
    @property
    def gradient_accumulation(self) -> int: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def warmup_share(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def checkpoint_steps(self) -> int: ...


class Batch(NamedTuple):
    """Rows in one forward pass and forward passes in one optimizer step."""

    size: int
    accumulation: int

    def smaller(self) -> "Batch | None":
        """Half the rows (or the next divisor) in as many more passes: the same effective batch; None below one row."""
        if self.size == 1:
            return None
        size = next(size for size in range(self.size // 2, 0, -1) if self.size % size == 0)
        return Batch(size, self.accumulation * self.size // size)


class Ran(NamedTuple):
    """A trainer that has come to its end, and how it got there."""

    trainer: Any
    resumed_from_step: int
    seconds: float
    """Of the training loop, in this process."""
    notes: list[str]


def arguments(spec: RunSpec, batch: Batch, work_folder: Path, rate: float, steps: int) -> dict[str, Any]:
    """Arguments that every trainer gets: a fixed order, checkpoints that resume, every step reported."""
    import torch

    return {
        "output_dir": str(work_folder),
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": batch.size,
        "per_device_eval_batch_size": batch.size,
        "gradient_accumulation_steps": batch.accumulation,
        "gradient_checkpointing": spec.gradient_checkpointing,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(steps * spec.warmup_share),
        "max_grad_norm": spec.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": spec.seed,
        "save_strategy": "steps",
        "save_steps": spec.checkpoint_steps,
        "save_only_model": False,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, CUDA's, or that of torch's CPU allocator."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in str(error) or "out of memory" in str(error))


def run(build: Callable[[Batch], Any], spec: RunSpec, section: str, work_folder: Path, identity: str) -> Ran:
    """Build a trainer and run it to its end, from the last whole checkpoint of this run if there is one.

    Where memory runs out the batch is made smaller, with as many more passes that the effective batch stays, and the
    run goes on from its last checkpoint. Raises: SetupError where not even one row at a time has room.
    """
    batch, notes = Batch(spec.batch_size, spec.gradient_accumulation), list[str]()
    while True:
        resumed = last_whole(work_folder, identity)
        try:
            trainer, seconds = _attempt(build, batch, resumed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            batch = _with_less(batch, section, notes)
            continue
        return Ran(trainer, int(resumed.name.rpartition("-")[2]) if resumed else 0, seconds, notes)


def _attempt(build: Callable[[Batch], Any], batch: Batch, resumed: Path | None) -> tuple[Any, float]:
    """A trainer built and run to its end, and the seconds of its loop; one that fails leaves no memory behind."""
    trainer = build(batch)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    return trainer, time.monotonic() - started


def _with_less(batch: Batch, section: str, notes: list[str]) -> Batch:
    """The batch to go on with after memory ran out, told in `notes`."""
    import torch

    less = batch.smaller()
    if less is None:
        raise SetupError(
            f"{section}: not even one row at a time has room in memory; lower {section}.max_length, set"
            f" {section}.gradient_checkpointing, or take method qlora or a smaller model"
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    notes.append(
        f"out of memory with {batch.size} rows at a time: went on with {less.size} and"
        f" {less.accumulation} passes a step, the effective batch is the same"
    )
    return less
