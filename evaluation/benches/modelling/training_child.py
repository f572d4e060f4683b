"""Script: one training of the starter in a process of its own, `bare` (trl as written by hand) or `ours`.

Called with a JSON object: `side`, `method`, `rows`, `batch`, `length`, `rate`, `folder`. Prints one JSON object:
tokens, seconds of the training loop, and the process's resident bytes before it and at their peak. Both sides see the
same rows in the same order, so that they pad alike.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from infra.settings import be_quiet
from models.base import STARTER_FOLDER
from models.starter import reading
from models.training.batches import row_order
from models.training.rows import TrainingRow
from models.types import Message


def chats(count: int) -> list[list[dict[str, str]]]:
    """Reading conversations, the same for the same count."""
    return [reading.example(number, long=0.0).messages() for number in range(count)]


def bare(asked: dict[str, Any]) -> dict[str, float]:
    """LoRA by trl as its documentation shows it; only the order of the rows is given."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    rows = chats(asked["rows"])
    lengths = [len(tokenizer.apply_chat_template(chat, return_dict=False)) for chat in rows]
    order = row_order(lengths, 1, asked["batch"], 0)
    trainer: Any = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(STARTER_FOLDER, dtype=torch.bfloat16),
        args=SFTConfig(
            output_dir=asked["folder"],
            assistant_only_loss=True,
            max_length=asked["length"],
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=asked["batch"],
            gradient_checkpointing=False,
            learning_rate=asked["rate"],
            lr_scheduler_type="cosine",
            bf16=True,
            use_cpu=True,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list([{"messages": rows[index]} for index in order]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    before, started = _resident(), time.monotonic()
    trainer.train()
    return {"tokens": sum(lengths), "seconds": time.monotonic() - started, "before": before}


def ours(asked: dict[str, Any]) -> dict[str, float]:
    """The same by `models.training.sft.train`."""
    import bitsandbytes  # noqa: F401  # so that what the libraries hold themselves is in `before`
    import torch  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401

    from models.training import sft
    from models.training.dataset import Dataset
    from models.training.spec import TrainSpec

    rows = [
        TrainingRow(messages=tuple(Message.model_validate(message) for message in chat), source=f"case:{number}")
        for number, chat in enumerate(chats(asked["rows"]))
    ]
    spec = TrainSpec(
        method=asked["method"],
        epochs=1,
        batch_size=asked["batch"],
        max_length=asked["length"],
        learning_rate=asked["rate"],
        warmup_share=0.0,
        checkpoint_steps=500,
    )
    before = _resident()
    report = sft.train(STARTER_FOLDER, Dataset(rows), spec, Path(asked["folder"]), lambda _: None)
    return {"tokens": report.tokens, "seconds": report.tokens / report.tokens_per_second, "before": before}


def _resident() -> float:
    return float(psutil.Process().memory_info().rss)


def main() -> None:
    """One training, told on standard output."""
    be_quiet()
    asked = json.loads(sys.argv[1])
    told = bare(asked) if asked["side"] == "bare" else ours(asked)
    peak = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("\n" + json.dumps(told | {"peak": peak}))  # noqa: T201  # the script's output


if __name__ == "__main__":
    main()
