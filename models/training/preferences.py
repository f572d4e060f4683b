"""Direct preference optimization by trl: a new LoRA adapter over the fine-tuned model, resumable after kill -9."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from infra.errors import InputError
from infra.store import value_digest
from models.training.adapters import base_name, check_model_folder, fresh, merge_adapter, save_adapter
from models.training.batches import Coder, row_order
from models.training.dataset import Dataset
from models.training.methods import low_rank, open_base, train_in_float32
from models.training.quiet import one_thread, quiet_libraries
from models.training.rows import PreferenceRow
from models.training.running import Batch, arguments, run
from models.training.spec import PreferenceSpec
from models.training.watching import Progress, Watch, callback

SECTION = "training.preference"


class Margin(BaseModel):
    """How much likelier the chosen answer of a validation pair is than the rejected one, in nats of the whole answer.

    β times (after − before) is the implied reward's margin of Rafailov et al. 2023, eq. 7.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    before: float
    """By the fine-tuned model, the reference."""
    after: float
    """With the new adapter."""


class PreferenceReport(BaseModel):
    """What a preference training made. Seconds count this process only."""

    model_config = ConfigDict(frozen=True)

    adapter: Path
    """LoRA over the fine-tuned model."""
    merged: Path
    """The fine-tuned model with that adapter in it, bf16."""
    pairs: int
    pairs_too_long: int
    steps: int
    losses: list[tuple[int, float]]
    margins: list[Margin]
    """Of the validation pairs that fit, in their order."""
    seconds: float
    resumed_from_step: int = 0
    notes: list[str] = []


class _Fitting(NamedTuple):
    """The pairs that fit, in the form of trl, and their longer side in tokens."""

    pairs: list[PreferenceRow]
    lengths: list[int]

    def chats(self, order: Sequence[int]) -> list[dict[str, list[dict[str, str]]]]:
        return [_chat(self.pairs[index]) for index in order]


def _chat(pair: PreferenceRow) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [message.model_dump() for message in pair.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def prefer(
    model_folder: Path, dataset: Dataset, spec: PreferenceSpec, work_folder: Path, progress: Progress
) -> PreferenceReport:
    """Teach the model in `model_folder` the dataset's preferences: `work_folder/adapter` and `work_folder/merged`.

    The reference is the same model with the adapter off. On a CPU the same inputs give the same bytes, also after a
    kill. Raises: as `train`; InputError without a pair, or where none fits.
    """
    check_model_folder(model_folder)
    work_folder.mkdir(parents=True, exist_ok=True)
    with quiet_libraries(), one_thread():
        started = time.monotonic()
        base, coder = base_name(model_folder), Coder(model_folder)
        learnt = _fit(coder, dataset.pairs, spec.max_length)
        if not learnt.pairs:
            raise InputError(
                f"{SECTION}: none of the {len(dataset.pairs)} preference pairs has at most {spec.max_length} tokens;"
                f" give pairs, raise {SECTION}.max_length, or take `preference` out of the policy"
            )
        identity = value_digest([base, spec.model_dump(), [pair.model_dump() for pair in dataset.pairs]])
        order = row_order(learnt.lengths, spec.epochs, spec.batch_size, spec.seed)
        ran = run(
            lambda batch: _trainer(
                model_folder, coder, learnt.chats(order), spec, batch, work_folder, progress, identity
            ),
            spec,
            SECTION,
            work_folder,
            identity,
        )
        adapter, merged = fresh(work_folder / "adapter"), fresh(work_folder / "merged")
        save_adapter(ran.trainer.model, adapter, base)
        merge_adapter(model_folder, adapter, merged)
        margins = _margins(ran.trainer.model, coder, _fit(coder, dataset.validation_pairs, spec.max_length).pairs)
    state = ran.trainer.state
    return PreferenceReport(
        adapter=adapter,
        merged=merged,
        pairs=len(learnt.pairs),
        pairs_too_long=len(dataset.pairs) - len(learnt.pairs),
        steps=state.global_step,
        losses=[(entry["step"], entry["loss"]) for entry in state.log_history if "loss" in entry],
        margins=margins,
        seconds=time.monotonic() - started,
        resumed_from_step=ran.resumed_from_step,
        notes=[*coder.notes, *ran.notes],
    )


def _fit(coder: Coder, pairs: Sequence[PreferenceRow], max_length: int) -> _Fitting:
    """The pairs whose prompt with either answer has at most `max_length` tokens."""
    kept, lengths = [], []
    for pair in pairs:
        prompt, chosen, rejected = coder.encode_pair(pair)
        length = len(prompt) + max(len(chosen), len(rejected))
        if length <= max_length:
            kept.append(pair)
            lengths.append(length)
    return _Fitting(kept, lengths)


def _trainer(
    model_folder: Path,
    coder: Coder,
    chats: list[dict[str, list[dict[str, str]]]],
    spec: PreferenceSpec,
    batch: Batch,
    work_folder: Path,
    progress: Progress,
    identity: str,
) -> Any:
    """The trl trainer; its adapter is held in float32."""
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    steps = math.ceil(len(chats) / (batch.size * batch.accumulation))
    shared = arguments(spec, batch, work_folder, spec.learning_rate, steps)
    model = open_base(model_folder, spec.method)
    trainer: Any = DPOTrainer(
        model=model,
        args=DPOConfig(**shared, beta=spec.beta, max_length=None),
        train_dataset=Rows.from_list(chats),
        processing_class=coder.tokenizer,
        peft_config=low_rank(model, spec.rank, spec.alpha),
        callbacks=[callback(Watch(progress, identity, spec, SECTION))],
    )
    trainer.remove_callback(PrinterCallback)
    train_in_float32(trainer.model)
    return trainer


def _margins(model: Any, coder: Coder, pairs: Sequence[PreferenceRow]) -> list[Margin]:
    """Log-probability of chosen minus rejected, without and with the adapter."""
    model.eval()
    made = []
    for pair in pairs:
        prompt, chosen, rejected = coder.encode_pair(pair)
        after = _answer_logp(model, prompt, chosen) - _answer_logp(model, prompt, rejected)
        with model.disable_adapter():
            before = _answer_logp(model, prompt, chosen) - _answer_logp(model, prompt, rejected)
        made.append(Margin(source=pair.source, before=before, after=after))
    return made


def _answer_logp(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Log-probability of the whole answer after the prompt, in nats."""
    import torch

    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    chosen = torch.log_softmax(logits, -1).gather(1, ids[0, len(prompt) :, None])
    return float(chosen.sum())
