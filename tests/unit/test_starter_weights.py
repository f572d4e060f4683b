"""The starter model's tokenizer, chat template and exported weights."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import models.starter
from models.starter import reading, tokenizer

WEIGHTS = Path(models.starter.__file__).parent / "weights"


@pytest.fixture(scope="module")
def coder() -> PreTrainedTokenizerFast:
    return tokenizer.load(WEIGHTS)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_tokenize_as_the_whole(coder: PreTrainedTokenizerFast, seed: int) -> None:
    messages = reading.example(seed).messages()
    whole = coder(coder.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    assert tokenizer.encode(coder.backend_tokenizer, reading.example(seed))[0] == whole
    prompt = coder.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    ids = coder(prompt, add_special_tokens=False)["input_ids"]
    assert whole[: len(ids)] == ids


@pytest.mark.parametrize("seed", range(20))
def test_the_generation_mask_covers_exactly_the_replies(coder: PreTrainedTokenizerFast, seed: int) -> None:
    example = reading.example(seed)
    made: Any = coder.apply_chat_template(example.messages(), return_dict=True, return_assistant_tokens_mask=True)
    ids, answer = tokenizer.encode(coder.backend_tokenizer, example)
    assert made["input_ids"] == ids
    assert [bool(mark) for mark in made["assistant_masks"]] == answer


def test_replies_decode_to_their_text(coder: PreTrainedTokenizerFast) -> None:
    for text in ("14 days [2]", "Żaneta Öst [1]; £3.50 [4]", reading.REFUSAL, "yes"):
        assert coder.decode(coder(text)["input_ids"]) == text


def test_a_digit_is_a_token(coder: PreTrainedTokenizerFast) -> None:
    tokens = coder.convert_ids_to_tokens(coder("KM-204 costs 1987.50 [3]")["input_ids"])
    assert [token for token in tokens if any(c.isdigit() for c in token)] == list("2041987503")


def test_a_word_has_the_same_tokens_at_the_start_of_a_reply_and_in_a_passage(coder: PreTrainedTokenizerFast) -> None:
    inside = coder("the depot in Harrowgate")["input_ids"]
    alone = coder("Harrowgate")["input_ids"]
    assert inside[-len(alone) :] == alone


def test_the_weights_are_small_and_load() -> None:
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 12_000_000
    model = LlamaForCausalLM.from_pretrained(WEIGHTS)
    assert model.config.tie_word_embeddings
    assert model.config.eos_token_id == 2
    assert model.config.intermediate_size % 128 == 0
    assert str(model.dtype) == "torch.bfloat16"
