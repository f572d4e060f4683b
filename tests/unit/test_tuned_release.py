"""What a fine-tuned release is made of, for every method of training."""

import pytest

from flows.bundling import merged_model, tuned_part
from infra.errors import InputError
from infra.store import ArtifactRef
from tasks.policy import StageResult


def ref(name: str) -> ArtifactRef:
    return ArtifactRef(kind="model", digest=f"digest of {name}", uri=f"/{name}")


def results(method: str, *made: str, preferred: bool = False) -> dict[str, StageResult]:
    """The stages of a run that trained by `method`."""
    found = {
        "take-model": StageResult(refs={"model": ref("base")}),
        "make-rows": StageResult(refs={"dataset": ref("rows")}),
        "finetune-adapter": StageResult(refs={name: ref(name) for name in made}, params={"method": method}),
    }
    if preferred:
        refs = {"adapter": ref("preferred adapter"), "merged": ref("preferred model")}
        found["prefer-adapter"] = StageResult(refs=refs, params={"method": "lora"})
    return found


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_low_rank_adapter_is_served_beside_its_base(method: str) -> None:
    made = results(method, "adapter", "merged")
    part = tuned_part(made)
    assert (part.base, part.adapter, part.parent) == (ref("base"), ref("adapter"), "")
    assert merged_model(made) == (ref("merged"), "digest of adapter")


def test_a_prefix_is_served_beside_its_base_and_cannot_be_quantized() -> None:
    made = results("prefix", "adapter")
    assert tuned_part(made).adapter == ref("adapter")
    with pytest.raises(InputError, match=r"method prefix leaves no merged model.*quantization\.precisions to \[\]"):
        merged_model(made)


def test_ia3_is_served_merged_and_names_its_adapter() -> None:
    part = tuned_part(results("ia3", "adapter", "merged"))
    assert (part.base, part.adapter, part.parent) == (ref("merged"), None, "digest of adapter")


def test_full_training_is_the_whole_model_and_names_its_rows() -> None:
    part = tuned_part(results("full", "merged"))
    assert (part.base, part.adapter, part.parent) == (ref("merged"), None, "digest of rows")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_after_preferences_the_new_adapter_stands_on_the_merged_model(method: str) -> None:
    made = results(method, "adapter", "merged", preferred=True)
    part = tuned_part(made)
    assert (part.base, part.adapter) == (ref("merged"), ref("preferred adapter"))
    assert merged_model(made) == (ref("preferred model"), "digest of preferred adapter")
