"""Quantization: the folder that is written, and the rule that chooses a precision."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.errors import InputError
from models.quantize import Measured, Quantized, QuantSpec, choose_precision, quantize
from tests.unit.tiny_model import content, make_base, rows

POLICY = QuantSpec(margin=0.05, alpha=0.05, group_size=64, calibration_rows=8, max_length=128)

BF16 = Measured(precision="bf16", bytes_on_disk=1000, quality=0.8)
W8 = Measured(precision="w8a8", bytes_on_disk=600, quality=0.79, lower_bound=-0.03)
W4 = Measured(precision="w4a16", bytes_on_disk=400, quality=0.78, lower_bound=-0.04)


def changed(item: Measured, **fields: object) -> Measured:
    return item.model_copy(update=fields)


@pytest.mark.parametrize(
    ("measured", "chosen", "said"),
    [
        ([BF16, W8, W4], "w4a16", "60% fewer bytes"),
        ([BF16, W8, changed(W4, lower_bound=-0.08)], "w8a8", "w4a16: worse than bf16"),
        ([BF16, W8, changed(W4, lower_bound=-0.05)], "w8a8", "w4a16: worse than bf16"),
        ([BF16, W8, changed(W4, served=False)], "w8a8", "does not serve"),
        ([BF16, changed(W8, lower_bound=-0.3), changed(W4, served=False)], "bf16", "bf16: kept"),
        ([BF16, changed(W4, bytes_on_disk=1000)], "bf16", "not smaller"),
        ([BF16, changed(W4, lower_bound=None)], "bf16", "not compared"),
        ([BF16, changed(W4, lower_bound=float("nan"))], "bf16", "not shown otherwise"),
        ([BF16], "bf16", "kept"),
    ],
)
def test_the_smallest_that_is_no_worse(measured: list[Measured], chosen: str, said: str) -> None:
    for order in (measured, measured[::-1]):
        choice = choose_precision(order, POLICY)
        assert choice.precision == chosen
        assert said in " | ".join(choice.reasons)
        assert len(choice.reasons) >= len(measured) - 1


def test_a_choice_needs_bf16_and_each_precision_once() -> None:
    with pytest.raises(InputError, match="bf16"):
        choose_precision([W8], POLICY)
    with pytest.raises(InputError, match="once"):
        choose_precision([BF16, W8, W8], POLICY)


def test_margin_and_error_rate_have_no_silent_value() -> None:
    with pytest.raises(ValidationError, match="margin"):
        QuantSpec.model_validate({"alpha": 0.05})
    with pytest.raises(ValidationError, match="once"):
        QuantSpec.model_validate({"alpha": 0.05, "margin": 0.05, "precisions": ["w8a8", "w8a8"]})


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("merged"))


@pytest.mark.parametrize(("precision", "smoothing"), [("w8a8", 0.0), ("w8a8", 0.5), ("w4a16", 0.0)])
def test_the_folder_loads_and_answers_almost_alike(
    merged: Path, precision: Quantized, smoothing: float, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = POLICY.model_copy(update={"smoothing": smoothing})
    report = quantize(merged, precision, rows(), spec, tmp_path / "one")
    again = quantize(merged, precision, rows(), spec, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert report.bytes_on_disk == again.bytes_on_disk
    assert report.bytes_on_disk < (merged / "model.safetensors").stat().st_size
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    ids = tokenizer("When does Gate 3 open?", return_tensors="pt")["input_ids"]
    exact = AutoModelForCausalLM.from_pretrained(merged)(ids).logits.float()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    near = model(ids).logits.float()
    assert torch.nn.functional.cosine_similarity(exact.flatten(), near.flatten(), dim=0) > 0.97
    assert model.lm_head.weight.dtype == torch.bfloat16
    for name, data in content(tmp_path / "one").items():
        assert str(merged).encode() not in data, name
        assert b"python/object" not in data, name


def test_wrong_input_is_named(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training rows"):
        quantize(merged, "w8a8", [], POLICY, tmp_path)
    with pytest.raises(InputError, match="group_size"):
        quantize(merged, "w4a16", rows(), POLICY.model_copy(update={"group_size": 48}), tmp_path)
