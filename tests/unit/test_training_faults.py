"""What goes wrong in a training: each ends with a message that says what to do, and the last good checkpoint stays."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.errors import InputError, SetupError
from models.training import sft
from models.training.adapters import check_adapter, merge_adapter
from models.training.batches import Coder, packs
from models.training.dataset import Dataset
from models.training.preferences import prefer
from models.training.rows import TrainingRow
from models.training.running import Batch, is_out_of_memory
from models.training.spec import RATES, PreferenceSpec, TrainSpec
from models.training.watching import Step, Watch, has_settled
from models.types import Message
from models.weights import check_whole
from tests.unit.tiny_model import TEMPLATE, make_base, pairs, rows

SPEC = TrainSpec(method="lora", rank=4, alpha=8, epochs=2, batch_size=4, checkpoint_steps=2, max_length=128)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def test_an_exploding_gradient_stops_the_run_and_the_checkpoint_before_it_stays(base: Path, tmp_path: Path) -> None:
    """The bound lies below every norm, so that each step counts as one of the exploding stretch."""
    spec = SPEC.model_copy(update={"gradient_bound": 1e-6, "gradient_patience": 3})
    healthy = tmp_path / "checkpoint-2"
    with pytest.raises(InputError, match=r"above training\.gradient_bound .* for 3 steps in a row.*learning_rate"):
        sft.train(base, Dataset(rows()), spec, tmp_path, lambda _: None)
    assert not (healthy / "sealed.json").exists(), "a checkpoint of the exploding stretch counts"
    assert not (tmp_path / "adapter").exists()


class _State:
    global_step, max_steps, best_model_checkpoint = 4, 8, None


def test_only_checkpoints_outside_an_exploding_stretch_are_sealed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    told: list[Step] = []
    watch = Watch(told.append, "run", SPEC, "training")
    watch.log({"loss": 1.0, "grad_norm": 1e6}, _State, tmp_path)
    watch.seal(_State, tmp_path)
    assert not (tmp_path / "checkpoint-4" / "sealed.json").exists()
    watch.log({"loss": 1.0, "grad_norm": 1.0}, _State, tmp_path)
    watch.seal(_State, tmp_path)
    assert (tmp_path / "checkpoint-4" / "sealed.json").exists()
    with pytest.raises(InputError, match=r"loss is nan at step 4; .*last good checkpoint is checkpoint-4"):
        watch.log({"loss": float("nan")}, _State, tmp_path)
    assert [step.figures["gradient_norm"] for step in told] == [1e6, 1.0]


def test_too_little_memory_halves_the_batch_and_keeps_the_effective_one(base: Path, tmp_path: Path) -> None:
    """Memory runs out at the third step; the run goes on from the checkpoint of the second with half the rows."""
    left = [MemoryError()]

    def full_at_three(step: Step) -> None:
        if step.step == 3 and left:
            raise left.pop()

    report = sft.train(base, Dataset(rows()), SPEC, tmp_path, full_at_three)
    assert report.steps == 8
    assert report.resumed_from_step == 2
    assert [step for step, _ in report.losses] == list(range(1, 9))
    assert any("with 4 rows at a time: went on with 2 and 2 passes a step" in note for note in report.notes)


def test_one_row_that_has_no_room_is_said(base: Path, tmp_path: Path) -> None:
    def always_full(_: Step) -> None:
        raise MemoryError

    with pytest.raises(SetupError, match="gradient_checkpointing"):
        sft.train(base, Dataset(rows(4)), SPEC.model_copy(update={"batch_size": 1}), tmp_path, always_full)


def test_torchs_own_error_is_known_as_lack_of_memory() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_smaller_batch_has_the_same_effective_size() -> None:
    assert Batch(8, 1).smaller() == Batch(4, 2)
    assert Batch(6, 3).smaller() == Batch(3, 6)
    assert Batch(5, 2).smaller() == Batch(1, 10)
    assert Batch(1, 10).smaller() is None


def test_a_tokenizer_without_padding_pads_with_its_end_and_says_so(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", pad=None)
    report = sft.train(base, Dataset(rows(4)), SPEC, tmp_path / "work", lambda _: None)
    assert any("no padding token: </s>" in note for note in report.notes)


def test_a_tokenizer_without_a_template_learns_texts_but_no_chats(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", template=None)
    with pytest.raises(InputError, match="no chat template"):
        Coder(base).encode(rows(1)[0])
    text = TrainingRow(messages=(Message(role="assistant", content="7 o'clock"),), source="file:x:1")
    encoded = Coder(base).encode(text)
    assert encoded.labels == encoded.ids
    assert Coder(base).tokenizer.decode(encoded.ids).endswith("7 o'clock</s>")
    with pytest.raises(InputError, match="preferences need one"):
        prefer(base, Dataset((), (), pairs(4)), PreferenceSpec(), tmp_path / "work", lambda _: None)


def test_a_cut_off_file_is_named_before_anything_is_loaded(base: Path, tmp_path: Path) -> None:
    cut = make_base(tmp_path / "base")
    weights = cut / "model.safetensors"
    whole = weights.read_bytes()
    check_whole(weights)
    for length in (len(whole) - 1, len(whole) // 2, 100, 4, 0):
        weights.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model\.safetensors.*(cut off|cannot be read)"):
            sft.train(cut, Dataset(rows(4)), SPEC, tmp_path / "work", lambda _: None)
    assert not (tmp_path / "work").exists()


def test_an_adapter_of_another_base_and_a_cut_off_one_are_refused(base: Path, tmp_path: Path) -> None:
    made = sft.train(base, Dataset(rows(4)), SPEC, tmp_path / "work", lambda _: None)
    assert made.adapter is not None
    check_adapter(made.adapter, base)
    other = make_base(tmp_path / "other", TEMPLATE + "{# another #}")
    with pytest.raises(InputError, match=r"made for model-[0-9a-f]{16}, not for model-"):
        merge_adapter(other, made.adapter, tmp_path / "out")
    weights = made.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors.*cut off"):
        merge_adapter(base, made.adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_spec_is_ignored(base: Path, tmp_path: Path) -> None:
    sft.train(base, Dataset(rows(4)), SPEC, tmp_path, lambda _: None)
    report = sft.train(base, Dataset(rows(4)), SPEC.model_copy(update={"rank": 2}), tmp_path, lambda _: None)
    assert report.resumed_from_step == 0
    assert report.adapter is not None
    assert json.loads((report.adapter / "adapter_config.json").read_text())["r"] == 2


def test_no_pair_that_fits_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 0 preference pairs.*take `preference` out"):
        prefer(base, Dataset(()), PreferenceSpec(), tmp_path, lambda _: None)


@pytest.mark.parametrize("name", ["packing", "gradient_checkpointing", "preference"])
def test_what_prefix_tuning_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}: not with method prefix"):
        TrainSpec.model_validate({"method": "prefix", name: {} if name == "preference" else True})


def test_patience_needs_looks() -> None:
    with pytest.raises(ValidationError, match="evaluation_steps"):
        TrainSpec(patience=2)


def test_a_rate_that_is_not_given_is_the_methods_own() -> None:
    assert {method: TrainSpec(method=method).rate for method in RATES} == RATES
    assert TrainSpec(method="full", learning_rate=3e-5).rate == 3e-5


def test_when_the_validation_loss_has_settled() -> None:
    assert not has_settled([3.0, 2.0, 1.0], patience=2, least=0.0)
    assert has_settled([3.0, 2.0, 2.0, 2.5], patience=2, least=0.0)
    assert not has_settled([3.0, 2.0, 2.5], patience=2, least=0.0)
    assert has_settled([3.0, 2.95, 2.9], patience=2, least=0.2)
    assert not has_settled([3.0, 3.0, 3.0], patience=0, least=0.0)


def test_packs_hold_every_row_once_an_epoch_and_never_too_much() -> None:
    lengths = [5 + (7 * number) % 40 for number in range(50)]
    made = packs(lengths, 2, 64, seed=1)
    assert sorted(index for pack in made for index in pack) == sorted([*range(50)] * 2)
    assert max(sum(lengths[index] for index in pack) for pack in made) <= 64
    assert len(made) <= 1.15 * 2 * sum(lengths) / 64 + 1
    assert made == packs(lengths, 2, 64, seed=1)


def test_rows_of_a_pack_do_not_see_each_other(base: Path, tmp_path: Path) -> None:
    """The loss of packed rows is that of the same rows one by one."""
    some = rows(3)
    losses = []
    for packing in (True, False):
        spec = SPEC.model_copy(update={"packing": packing, "batch_size": 1 if packing else 3, "epochs": 1})
        spec = spec.model_copy(update={"max_length": 1024})
        report = sft.train(base, Dataset(some), spec, tmp_path / str(packing), lambda _: None)
        losses.append(report.losses[0][1])
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
