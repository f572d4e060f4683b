"""Distillation on a tiny model: what is compared with what, what is learnt, and a run that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import InputError, SetupError
from models.base import SHIPPED
from models.training.batches import IGNORED
from models.training.dataset import Dataset
from models.training.distill import DistillReport, distill_logits
from models.training.distill_batches import Collator, examples
from models.training.distill_pair import check_ratio, check_same_tokens, count_parameters
from models.training.distill_spec import DistillSpec, LogitSpec, TeacherEndpoint
from models.training.sft import Prepared, prepare
from models.training.spec import TrainSpec
from models.training.watching import Step
from tests.unit.tiny_model import content, make_base, rows

TRAINING = TrainSpec(method="full", learning_rate=0.01, epochs=2, batch_size=4, checkpoint_steps=2, max_length=128)
LOGITS = LogitSpec(on_policy=0.5, max_new_tokens=6, training=TRAINING)


def other_weights(source: Path, folder: Path, noise: float = 0.1) -> Path:
    """The model of `source` with noise on its weights."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    torch.manual_seed(1)
    tensors = load_file(source / "model.safetensors")
    noisy = {name: tensor + noise * torch.randn_like(tensor) for name, tensor in tensors.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def student(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_weights(teacher, tmp_path_factory.mktemp("student") / "model")


@pytest.fixture(scope="module")
def distilled(student: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> DistillReport:
    return distill(student, teacher, tmp_path_factory.mktemp("work"))


def distill(student: Path, teacher: Path, work: Path, spec: LogitSpec = LOGITS) -> DistillReport:
    return distill_logits(student, teacher, rows(), spec, work, lambda *_: None)


def divergence(student: Path, teacher: Path) -> float:
    """Mean KL(teacher || student) over the tokens of one row, in nats."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(teacher)
    chat = [message.model_dump() for message in rows()[0].messages]
    ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)["input_ids"]
    ours, theirs = (
        torch.log_softmax(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits[0], -1)
        for folder in (student, teacher)
    )
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


def test_the_student_comes_nearer_to_the_teacher(student: Path, teacher: Path, distilled: DistillReport) -> None:
    assert distilled.steps == 8
    assert [step for step, _ in distilled.losses] == list(range(1, 9))
    assert (distilled.rows, distilled.rows_too_long, distilled.resumed_from_step) == (16, 0, 0)
    assert divergence(distilled.student, teacher) < 0.8 * divergence(student, teacher)


def test_the_student_is_a_whole_model_in_bf16(student: Path, distilled: DistillReport) -> None:
    from safetensors import safe_open

    assert set(content(distilled.student)) == set(content(student))
    with safe_open(distilled.student / "model.safetensors", "pt") as file:
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118
    assert count_parameters(distilled.student) == count_parameters(student)


def test_a_model_has_nothing_to_learn_from_itself(teacher: Path, tmp_path: Path) -> None:
    spec = LOGITS.model_copy(update={"on_policy": 1.0})
    report = distill(teacher, teacher, tmp_path, spec)
    assert max(loss for _, loss in report.losses) < 1e-6
    assert content(report.student)["model.safetensors"] == content(teacher)["model.safetensors"]


def test_a_killed_run_ends_in_the_same_bytes(
    student: Path, teacher: Path, distilled: DistillReport, tmp_path: Path
) -> None:
    """kill -9 after the third step, with sampled replies before and after it, and a new start."""
    killed = subprocess.run(
        [sys.executable, __file__, str(student), str(teacher), str(tmp_path)],
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL
    resumed = distill(student, teacher, tmp_path)
    assert resumed.resumed_from_step == 2
    assert content(resumed.student) == content(distilled.student)
    assert resumed.losses == distilled.losses


def test_what_draws_beside_a_run_does_not_change_it(
    student: Path, teacher: Path, distilled: DistillReport, tmp_path: Path
) -> None:
    """Other threads of the process use the same generators."""
    import torch

    def draw(_step: Step) -> None:
        random.random()  # noqa: S311 - drawn to be in the way
        torch.rand(3)

    disturbed = distill_logits(student, teacher, rows(), LOGITS, tmp_path, draw)
    assert disturbed.losses == distilled.losses
    assert content(disturbed.student) == content(distilled.student)


def test_other_seeds_sample_other_replies(
    student: Path, teacher: Path, distilled: DistillReport, tmp_path: Path
) -> None:
    spec = LOGITS.model_copy(update={"training": LOGITS.training.model_copy(update={"seed": 1})})
    assert distill(student, teacher, tmp_path, spec).losses != distilled.losses


def prepared(base: Path, count: int, epochs: int) -> Prepared:
    return prepare(base, Dataset(rows(count)), TRAINING.model_copy(update={"epochs": epochs}))


def test_prompts_end_where_a_reply_begins(teacher: Path) -> None:
    """A batch holds whole rows, labels on the answers alone, and prompts up to one of the answers."""
    ready = prepared(teacher, 4, 2)
    made = examples(ready.rows, ready.order, 0)
    assert len(made) == 8
    for row in made:
        place = row["prompt_length"]
        assert row["labels"][place] != IGNORED
        assert row["labels"][place - 1] == IGNORED
        assert ready.coder.tokenizer.decode(row["input_ids"][:place]).endswith("<|assistant|>")
    batch = Collator(0)(made[:4])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    for place, row in enumerate(made[:4]):
        prompt = batch["prompts"][place][batch["prompt_attention_mask"][place] == 1].tolist()
        assert prompt == row["input_ids"][: row["prompt_length"]]
        assert batch["prompt_attention_mask"][place][-1] == 1, "prompts end together: generation goes on from there"
        assert batch["input_ids"][place][batch["attention_mask"][place] == 1].tolist() == row["input_ids"]


def test_every_reply_of_a_row_is_asked_for(teacher: Path) -> None:
    ready = prepared(teacher, 1, 20)
    assert len({row["prompt_length"] for row in examples(ready.rows, ready.order, 0)}) == 2


def test_parameters_are_counted_from_headers(teacher: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert count_parameters(teacher) == AutoModelForCausalLM.from_pretrained(teacher).num_parameters()
    starter, shipped = count_parameters(SHIPPED["starter"]), count_parameters(SHIPPED["student"])
    check_ratio(shipped, starter, DistillSpec().least_ratio)


def test_a_truncated_file_is_named(teacher: Path, tmp_path: Path) -> None:
    broken = other_weights(teacher, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        count_parameters(broken)


def test_a_student_that_is_too_large_is_refused_with_both_counts() -> None:
    check_ratio(10, 40, 4)
    with pytest.raises(InputError, match=r"39,000 .* 10,000.*3\.90.*least_ratio asks for 4"):
        check_ratio(10_000, 39_000, 4)


def test_models_with_other_tokens_cannot_be_compared(teacher: Path, tmp_path: Path) -> None:
    other = other_weights(teacher, tmp_path / "other")
    file = other / "tokenizer.json"
    told = json.loads(file.read_text("utf-8"))
    vocabulary = told["model"]["vocab"]
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(told), "utf-8")
    with pytest.raises(InputError, match=r"2 of the teacher's differ.*`logits: null`"):
        check_same_tokens(teacher, other)
    with pytest.raises(InputError, match="logits: null"):
        distill(teacher, other, tmp_path / "work")


def test_a_head_of_another_size_cannot_be_compared(teacher: Path, tmp_path: Path) -> None:
    other = other_weights(teacher, tmp_path / "other")
    config = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 384}), "utf-8")
    with pytest.raises(InputError, match="320 logits a token and the teacher 384"):
        check_same_tokens(teacher, other)


def test_a_loss_that_is_no_number_stops_the_run(student: Path, teacher: Path, tmp_path: Path) -> None:
    broken = other_weights(teacher, tmp_path / "broken")
    poison(broken / "model.safetensors")
    with pytest.raises(InputError, match=r"distillation\.logits\.training: loss is nan"):
        distill(student, broken, tmp_path / "work", LOGITS.model_copy(update={"on_policy": 0.0}))
    assert not (tmp_path / "work" / "student").exists()


def poison(path: Path) -> None:
    """Set one weight to infinity."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, path, metadata={"format": "pt"})


def test_wrong_input_is_named(student: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        distill_logits(student, teacher, [], LOGITS, tmp_path, lambda *_: None)
    with pytest.raises(SetupError, match="nowhere"):
        distill(student, tmp_path / "nowhere", tmp_path)


def test_an_endpoint_gives_answers_only() -> None:
    endpoint = TeacherEndpoint(url="http://127.0.0.1:9", model="large")
    with pytest.raises(ValidationError, match="no logits"):
        DistillSpec(teacher=endpoint)
    assert DistillSpec(teacher=endpoint, logits=None).teacher == endpoint
    with pytest.raises(ValidationError, match="nothing from the teacher"):
        DistillSpec(sequence=None, logits=None)


def test_a_student_is_trained_in_full() -> None:
    lora = TrainSpec(method="lora")
    with pytest.raises(ValidationError, match="write full"):
        DistillSpec(training=lora)
    for wrong in (lora, TRAINING.model_copy(update={"packing": True})):
        with pytest.raises(ValidationError, match="logits need method full"):
            LogitSpec(training=wrong)


def kill_itself(step: Step) -> None:
    """kill -9 after the third step, so that nothing can be tidied up."""
    if step.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    distill_logits(Path(sys.argv[1]), Path(sys.argv[2]), rows(), LOGITS, Path(sys.argv[3]), kill_itself)
