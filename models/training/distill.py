"""On-policy distillation: the student answers, and learns the teacher's distribution over every next token.

The loss is the generalized Jensen-Shannon divergence of Agarwal et al., On-Policy Distillation of Language Models
(ICLR 2024), by trl's GKDTrainer. Resumable after kill -9: what a step samples depends on the seed and its number alone.
"""

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from infra.store import value_digest
from models.training.adapters import base_name, check_model_folder, fresh, save_model
from models.training.dataset import Dataset
from models.training.distill_batches import Collator, examples
from models.training.distill_pair import check_same_tokens
from models.training.distill_spec import LogitSpec
from models.training.methods import open_base, train_in_float32
from models.training.quiet import one_thread, quiet_libraries
from models.training.rows import TrainingRow
from models.training.running import Batch, arguments, run
from models.training.sft import Prepared, prepare
from models.training.watching import Progress, Watch, callback

SECTION = "distillation.logits.training"
"""Where the policy file has what errors speak of."""


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
    notes: list[str] = []
    """What a person should know: what stood in for what, where memory ran out."""


def distill_logits(
    student: Path, teacher: Path, rows: Sequence[TrainingRow], spec: LogitSpec, work_folder: Path, progress: Progress
) -> DistillReport:
    """Train all weights of `student` towards the teacher's next-token distributions: `work_folder/student`.

    A share `spec.on_policy` of the steps looks at replies that the student samples itself, the rest at those of the
    rows. On a CPU the same inputs give the same bytes, also when the run was killed and started again.
    Raises: SetupError for a folder that is no model; InputError for models with other tokens, rows that cannot be
    learnt from and a run that went wrong.
    """
    check_model_folder(student)
    check_model_folder(teacher)
    if not rows:
        raise InputError("distillation: no rows to learn from; check the train split of the cases")
    check_same_tokens(student, teacher)
    work_folder.mkdir(parents=True, exist_ok=True)
    with quiet_libraries(), one_thread():
        started = time.monotonic()
        names = [base_name(student), base_name(teacher)]
        identity = value_digest([names, spec.model_dump(), [row.model_dump() for row in rows]])
        prepared = prepare(student, Dataset(rows), spec.training)
        watch = Watch(progress, identity, spec.training, SECTION)
        ran = run(
            lambda batch: _trainer(student, teacher, prepared, spec, batch, work_folder, watch),
            spec.training,
            SECTION,
            work_folder,
            identity,
        )
        made = fresh(work_folder / "student")
        save_model(ran.trainer.model, student, made)
    state = ran.trainer.state
    return DistillReport(
        student=made,
        rows=len(prepared.rows),
        rows_too_long=len(rows) - len(prepared.rows),
        steps=state.max_steps,
        losses=[(entry["step"], entry["loss"]) for entry in state.log_history if "loss" in entry],
        seconds=time.monotonic() - started,
        resumed_from_step=ran.resumed_from_step,
        notes=[*prepared.coder.notes, *ran.notes],
    )


def _trainer(
    student: Path, teacher: Path, prepared: Prepared, spec: LogitSpec, batch: Batch, work_folder: Path, watch: Watch
) -> Any:
    """trl's trainer over prepared rows. The student's weights are float32: bf16 would lose small steps."""
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl.experimental.gkd import GKDConfig

    training = spec.training
    data = examples(prepared.rows, prepared.order, training.seed)
    steps = math.ceil(len(data) / (batch.size * batch.accumulation))
    shared = arguments(training, batch, work_folder, training.rate, steps)
    on_gpu = not shared["use_cpu"]
    config = GKDConfig(
        **shared | {"bf16": on_gpu},  # on a CPU both in float32: rounding apart, equal models then do not diverge
        weight_decay=training.weight_decay,
        max_length=training.max_length,
        beta=spec.beta,
        lmbda=spec.on_policy,
        temperature=spec.temperature,
        max_new_tokens=spec.max_new_tokens,
    )
    tokenizer = prepared.coder.tokenizer
    trainer: Any = _seeded_trainer(spec.on_policy, training.seed)(
        model=open_base(student, "full"),
        teacher_model=open_base(teacher, "lora" if on_gpu else "full"),  # held in bf16, or in float32
        args=config,
        data_collator=Collator(tokenizer.pad_token_id),
        train_dataset=Rows.from_list(data),
        processing_class=tokenizer,
        callbacks=[callback(watch)],
    )
    trainer.model_accepts_loss_kwargs = False  # else the loss of sampled replies is shared among the rows' own tokens
    trainer.remove_callback(PrinterCallback)
    train_in_float32(trainer.model)
    return trainer


def _seeded_trainer(on_policy: float, seed: int) -> Any:
    """trl's trainer with every draw made of the seed and the number of the step.

    trl draws from Python's own generator, and so do other threads of the process (a server's client, say): a run would
    depend on what happened beside it.
    """
    import torch
    from trl.experimental.gkd import GKDTrainer

    class Seeded(GKDTrainer):
        place = (-1, 0)
        """(optimizer step, forward pass in it)."""

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
            step, passed = self.state.global_step, self.place[1] + 1
            self.place = (step, passed if self.place[0] == step else 0)
            draw = random.Random(f"{seed}:{self.place}")  # noqa: S311 - sampling, nothing secret
            self.lmbda = 1.0 if draw.random() < on_policy else -1.0  # a share that is always or never reached
            torch.manual_seed(draw.getrandbits(63))
            return super().training_step(model, inputs, num_items_in_batch)

    return Seeded
