"""Fine-tuning on a tiny model: what is learnt, what is saved, and a run that is killed."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError, SetupError
from models.training import sft
from models.training.batches import IGNORED, row_order
from models.training.checkpoints import SEAL, last_whole, seal
from models.training.dataset import Dataset
from models.training.quiet import quiet_libraries
from models.training.rows import TrainingRow
from models.training.running import Batch
from models.training.sft import TrainReport
from models.training.spec import TrainSpec
from models.types import Message
from tests.unit.tiny_model import TEMPLATE, content, make_base, rows

SPEC = TrainSpec(rank=4, alpha=8, epochs=3, batch_size=4, checkpoint_steps=2, max_length=128, learning_rate=0.01)


def train(base: Path, work: Path, spec: TrainSpec = SPEC, some: list[TrainingRow] | None = None) -> TrainReport:
    return sft.train(base, Dataset(some or rows()), spec, work, lambda _: None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    return train(base, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def folders(trained: TrainReport) -> tuple[Path, Path]:
    """(adapter, merged)."""
    assert trained.adapter is not None
    assert trained.merged is not None
    return trained.adapter, trained.merged


def test_the_loss_falls_and_every_step_is_reported(trained: TrainReport) -> None:
    assert [step for step, _ in trained.losses] == list(range(1, 13))
    assert trained.steps == 12
    assert trained.losses[-1][1] < 0.95 * trained.losses[0][1]
    assert trained.tokens_per_second > 0
    assert (trained.rows, trained.rows_too_long, trained.resumed_from_step) == (16, 0, 0)


def test_exactly_the_answers_are_learnt(base: Path, tmp_path: Path) -> None:
    """The labels of the trainer's own data, decoded, are the assistant's words and the end token."""
    some = rows(4)
    with quiet_libraries():
        prepared = sft.prepare(base, Dataset(some), SPEC)
        trainer = sft.trainer_of(base, prepared, SPEC, Batch(4, 1), tmp_path, lambda _: None, "x")
        data: Any = trainer.train_dataset
    for place, (index,) in enumerate(prepared.order):
        learnt = [label for label in data[place]["labels"] if label != IGNORED]
        answers = [message.content for message in some[index].messages if message.role == "assistant"]
        assert prepared.coder.tokenizer.decode(learnt) == "".join(f"{answer}</s>" for answer in answers)


def test_a_template_that_marks_too_much_is_refused(tmp_path: Path) -> None:
    leaky = TEMPLATE.replace("{{ '<|' + message['role'] + '|>' }}", "").replace(
        "{% else %}{{ message['content'] }}", "{% else %}{% generation %}{{ message['content'] }}{% endgeneration %}"
    )
    with pytest.raises(InputError, match="not the answers"):
        train(make_base(tmp_path / "base", leaky), tmp_path / "work")


def test_a_template_without_marks_is_refused(tmp_path: Path) -> None:
    plain = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(InputError, match="generation"):
        train(make_base(tmp_path / "base", plain), tmp_path / "work")


def test_the_adapter_is_what_an_engine_loads(folders: tuple[Path, Path]) -> None:
    from safetensors import safe_open

    adapter, _ = folders

    assert sorted(content(adapter)) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert config["base_model_name_or_path"].startswith("model-")
    assert not config["modules_to_save"]
    assert len(config["target_modules"]) == 7
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
        assert len(names) == 2 * 7 * 2
        assert all(".lora_A." in name or ".lora_B." in name for name in names)
        assert {str(file.get_tensor(name).dtype) for name in names} == {"torch.bfloat16"}


def test_the_merged_model_is_bf16_and_answers_as_base_plus_adapter(base: Path, folders: tuple[Path, Path]) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter, merged_folder = folders

    tokenizer: Any = AutoTokenizer.from_pretrained(merged_folder)
    assert tokenizer.chat_template == TEMPLATE
    chat = [message.model_dump() for message in rows()[1].messages[:2]]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    merged = AutoModelForCausalLM.from_pretrained(merged_folder)
    assert merged.dtype == torch.bfloat16
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = plain(ids).logits[0, -1].detach()
    after = PeftModel.from_pretrained(plain, adapter)(ids).logits[0, -1].detach()
    got = merged.float()(ids).logits[0, -1].detach()
    assert torch.dist(got, after) < 0.1 * torch.dist(got, before)


def test_no_path_of_this_machine_is_kept(base: Path, folders: tuple[Path, Path]) -> None:
    for folder in folders:
        for name, data in content(folder).items():
            assert str(base).encode() not in data, name
            assert str(folders[0].parent).encode() not in data, name


def test_a_loss_that_is_no_number_stops_the_run(base: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"learning_rate": 0.1, "alpha": 256, "rank": 1, "epochs": 100})
    broken = tmp_path / "base"
    broken.mkdir()
    for path in base.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    _poison(broken / "model.safetensors")
    with pytest.raises(InputError, match=r"learning_rate.*no checkpoint"):
        train(broken, tmp_path / "work", spec)
    assert not (tmp_path / "work" / "adapter").exists()


def _poison(path: Path) -> None:
    """Set one weight to infinity."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, path, metadata={"format": "pt"})


def test_rows_that_do_not_fit_are_left_out_and_counted(base: Path, tmp_path: Path) -> None:
    long = Message(role="user", content="a long question " * 200)
    some = [*rows(4), TrainingRow(messages=(long, Message(role="assistant", content="no")), source="case:long")]
    report = train(base, tmp_path, SPEC.model_copy(update={"epochs": 1}), some)
    assert (report.rows, report.rows_too_long) == (4, 1)
    with pytest.raises(InputError, match="max_length"):
        train(base, tmp_path, SPEC, some[-1:])


def test_wrong_input_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        sft.train(base, Dataset([]), SPEC, tmp_path, lambda _: None)
    with pytest.raises(SetupError, match="nowhere"):
        train(tmp_path / "nowhere", tmp_path)
    with pytest.raises(SetupError, match=r"config\.json"):
        train(tmp_path, tmp_path)


def test_batches_hold_rows_of_like_length_and_every_epoch_every_row() -> None:
    lengths = [(number * 37) % 50 for number in range(64)]
    order = row_order(lengths, 2, 8, 0)
    assert sorted(order) == sorted([*range(64)] * 2)
    spreads = [
        max(lengths[i] for i in order[s : s + 8]) - min(lengths[i] for i in order[s : s + 8]) for s in range(0, 128, 8)
    ]
    assert sum(spreads) / len(spreads) < 10
    assert order == row_order(lengths, 2, 8, 0)
    assert order != row_order(lengths, 2, 8, 1)


def test_only_a_whole_checkpoint_of_the_same_run_counts(tmp_path: Path) -> None:
    for step in (2, 4, 6, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text(f"{step}")
        if step != 10:
            seal(folder, "run" if step != 6 else "another run")
    (tmp_path / "checkpoint-4" / "weights").write_text("damaged")
    assert last_whole(tmp_path, "run") == tmp_path / "checkpoint-2"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert (tmp_path / "checkpoint-2" / SEAL).is_file()
