"""Parameters counted from a config.json are those of the model that transformers builds from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError
from models.serving.architectures import ARCHITECTURES, read_shape
from models.serving.shapes import Fields

SMALL = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
GROUPED = SMALL | {"num_key_value_heads": 2}
EXPERTS = GROUPED | {"moe_intermediate_size": 20, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 2}
LATENT = SMALL | {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 10,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 20,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
}
FALCON = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    ("llama", GROUPED | {"tie_word_embeddings": True, "head_dim": 12}),
    ("mistral", GROUPED | {"sliding_window": 64}),
    ("qwen2", GROUPED),
    ("qwen3", GROUPED | {"head_dim": 16}),
    ("gemma", GROUPED | {"head_dim": 16}),
    ("gemma2", GROUPED | {"head_dim": 16}),
    ("gemma3_text", GROUPED | {"head_dim": 16}),
    ("phi3", GROUPED | {"pad_token_id": 0}),
    ("gpt_neox", SMALL),
    ("gpt2", {"vocab_size": 96, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 40}),
    ("falcon", FALCON),
    ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", FALCON | {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    ("opt", SMALL | {"ffn_dim": 80, "max_position_embeddings": 40, "word_embed_proj_dim": 48}),
    (
        "opt",
        SMALL
        | {"ffn_dim": 80, "max_position_embeddings": 40, "word_embed_proj_dim": 32, "do_layer_norm_before": False},
    ),
    ("mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    ("qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 36}),
    ("qwen3_moe", EXPERTS | {"head_dim": 16, "mlp_only_layers": [1]}),
    ("deepseek_v2", LATENT),
    ("deepseek_v2", LATENT | {"q_lora_rank": None}),
    ("deepseek_v3", LATENT),
]


def test_every_architecture_is_checked() -> None:
    assert {name for name, _ in MODELS} == set(ARCHITECTURES)


@pytest.mark.parametrize(("name", "values"), MODELS, ids=[f"{at}-{name}" for at, (name, _) in enumerate(MODELS)])
def test_parameters_are_those_of_transformers(name: str, values: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **values))
    assert read_shape({"model_type": name, **values}, "config.json").parameters == model.num_parameters()


@pytest.mark.parametrize("name", [name for name, known in ARCHITECTURES.items() if known.defaults])
def test_defaults_of_a_nested_config_are_those_of_transformers(name: str) -> None:
    from transformers import AutoConfig

    library = AutoConfig.for_model(name)
    assert {field: getattr(library, field) for field in ARCHITECTURES[name].defaults} == ARCHITECTURES[name].defaults


def test_a_saved_config_is_read_back(tmp_path: Path) -> None:
    """What transformers writes today, with its own names and nulls, is understood."""
    from transformers import AutoConfig

    for name, values in MODELS:
        AutoConfig.for_model(name, **values).save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text("utf-8"))
        told = read_shape({"model_type": name, **values}, "config.json")
        assert read_shape(saved, "config.json").parameters == told.parameters, name


def test_a_multimodal_config_is_read_by_its_language_part() -> None:
    """The form of Gemma 3 4B: what equals the default is left out."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    config = {"model_type": "gemma3", "text_config": text | {"sliding_window": 1024}, "vision_config": {}}
    shape = read_shape(config, "config.json")
    assert shape.parameters == 3_880_263_168
    assert (shape.cache.full_layers, shape.cache.window_layers, shape.cache.window) == (5, 29, 1024)
    assert "only the language part" in shape.notes[0]


def test_windows_by_layer() -> None:
    qwen = {"model_type": "qwen2", **GROUPED, "sliding_window": 64}
    assert read_shape(qwen | {"use_sliding_window": False}, "c").cache.window_layers == 0
    assert read_shape(qwen | {"use_sliding_window": True, "max_window_layers": 1}, "c").cache.window_layers == 2
    gemma = {"model_type": "gemma2", **GROUPED, "sliding_window": 64}
    assert read_shape(gemma, "c").cache.window_layers == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number"),
        ({"hidden_size": 0}, "hidden_size must be a whole number of at least 1"),
        ({"num_attention_heads": 7}, "num_attention_heads: 7 does not divide hidden_size 48"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({"layer_types": ["mamba"] * 3, "sliding_window": 8}, "layer_types: kind 'mamba' is not known"),
        ({"model_type": "mamba"}, "model_type 'mamba' is not known"),
        ({"model_type": None, "hidden_size": None}, "model_type is missing; it also lacks hidden_size"),
    ],
)
def test_errors_name_the_field(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=r"config\.json") as caught:
        read_shape({"model_type": "llama", **SMALL} | change, "config.json")
    assert named in str(caught.value)


def test_a_field_takes_its_first_name() -> None:
    fields = Fields("c", {"n_layer": 2, "num_hidden_layers": 3}, {})
    assert fields.whole("n_layer", "num_hidden_layers") == 2
