"""Quantization: the folder that is written, and the rule that chooses a precision."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.errors import InputError, SetupError
from models.quantizing.choice import Measured, choose_precision
from models.quantizing.make import quantize, weights_bytes
from models.quantizing.methods import METHODS, Quantized
from models.quantizing.spec import QuantSpec
from tests.unit.tiny_model import make_base, rows

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
        ([BF16, W8, changed(W4, precision="hqq3")], "w8a8", "hqq3: quality only"),
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


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("merged"))


LEAST_ALIKE: dict[Quantized, float] = {
    "fp8": 0.99, "w8a8": 0.99, "w4a16": 0.97, "w4a16-awq": 0.96, "nf4": 0.97, "hqq4": 0.97, "hqq3": 0.9, "hqq2": 0.6,
    "hqq1": 0.2,
}  # fmt: skip
"""Cosine of the logits to those of bf16, at least."""


@pytest.mark.parametrize(("precision", "smoothing"), [*((name, 0.0) for name in METHODS), ("w8a8", 0.5)])
def test_the_folder_loads_and_answers_almost_alike(
    merged: Path, precision: Quantized, smoothing: float, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = POLICY.model_copy(update={"smoothing": smoothing})
    report = quantize(merged, precision, rows(), spec, tmp_path / "one")
    again = quantize(merged, precision, rows(), spec, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert report.bytes_on_disk == again.bytes_on_disk == weights_bytes(tmp_path / "one")
    assert report.bytes_on_disk < (merged / "model.safetensors").stat().st_size
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    ids = tokenizer("When does Gate 3 open?", return_tensors="pt")["input_ids"]
    exact = AutoModelForCausalLM.from_pretrained(merged)(ids).logits.float()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    near = model(ids).logits.float()
    alike = torch.nn.functional.cosine_similarity(exact.flatten(), near.flatten(), dim=0)
    assert LEAST_ALIKE[precision] < alike < 1 - 1e-6
    assert model.lm_head.weight.dtype == torch.bfloat16
    for name, data in content(tmp_path / "one").items():
        assert str(merged).encode() not in data, name
        assert b"python/object" not in data, name


@pytest.mark.parametrize("precision", list(METHODS))
def test_the_planner_counts_what_is_written(merged: Path, precision: Quantized, tmp_path: Path) -> None:
    """All but the file's own header, and for nf4 its tables of values and descriptions of layers."""
    from models.serving.architectures import read_shape
    from models.serving.footprint import MemorySpec, weight_bytes

    quantize(merged, precision, rows(), POLICY, tmp_path)
    (path,) = (tmp_path / "packed" if not METHODS[precision].is_served else tmp_path).glob("*.safetensors")
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    shape = read_shape(json.loads((merged / "config.json").read_text()), "config")
    planned = weight_bytes(shape, MemorySpec(gpu_bytes=2**30, context=64, precision=precision, group_size=64))
    written = path.stat().st_size - header
    extra = sum(linear.count for linear in shape.linears) * 1300 if precision == "nf4" else 0
    assert planned <= written <= planned + extra


def test_weights_without_a_kernel_are_served_as_they_were_packed(merged: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    quantize(merged, "hqq2", [], POLICY, tmp_path)
    served, packed = load_file(tmp_path / "model.safetensors"), load_file(tmp_path / "packed" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert served[name].unfold(1, 64, 64).flatten(0, 1)[0].unique().numel() <= 4
    assert packed[f"{name}.packed"].numel() * 4 == served[name].numel()
    assert served["model.norm.weight"].equal(packed["model.norm.weight"])


def test_wrong_input_is_named(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training rows"):
        quantize(merged, "w8a8", [], POLICY, tmp_path)
    with pytest.raises(InputError, match="group_size"):
        quantize(merged, "w4a16", rows(), POLICY.model_copy(update={"group_size": 48}), tmp_path)
    with pytest.raises(InputError, match="awq on"):
        quantize(merged, "w4a16-awq", [], POLICY, tmp_path)
    with pytest.raises(SetupError, match="nowhere"):
        quantize(tmp_path / "nowhere", "nf4", [], POLICY, tmp_path)


def copied(merged: Path, folder: Path) -> Path:
    return Path(shutil.copytree(merged, folder))


def test_a_model_that_cannot_be_read_is_named(merged: Path, tmp_path: Path) -> None:
    cut = copied(merged, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut/model\.safetensors: .* cut off or damaged"):
        quantize(cut, "fp8", [], POLICY, tmp_path / "out")
    silent = copied(merged, tmp_path / "silent")
    (silent / "tokenizer_config.json").unlink()
    with pytest.raises(SetupError, match=r"tokenizer_config\.json is missing"):
        quantize(silent, "fp8", [], POLICY, tmp_path / "out")
    mute = copied(merged, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        quantize(mute, "w8a8", rows(), POLICY, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_groups_that_do_not_fit_a_layer_are_named(merged: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, LlamaForCausalLM

    odd = copied(merged, tmp_path / "odd")
    config = AutoConfig.from_pretrained(merged, hidden_size=96)
    LlamaForCausalLM(config).save_pretrained(odd)
    with pytest.raises(InputError, match=r"hqq3: groups of: 64 does not divide the 96 inputs of model\.layers\.0"):
        quantize(odd, "hqq3", [], POLICY, tmp_path / "out")
    quantize(odd, "nf4", [], POLICY, tmp_path / "nf4")


def test_a_night_tries_only_what_the_engine_serves() -> None:
    with pytest.raises(ValidationError, match="precisions"):
        QuantSpec.model_validate({"alpha": 0.05, "margin": 0.05, "precisions": ["nf4"]})
    assert QuantSpec(alpha=0.05, margin=0.05).sweep == tuple(METHODS)


def test_another_margin_quantizes_nothing_anew() -> None:
    assert POLICY.making() == POLICY.model_copy(update={"margin": 0.2, "sweep": ("nf4",)}).making()
    assert POLICY.making() != POLICY.model_copy(update={"group_size": 32}).making()
