"""The starter model's tokenizer: byte-level BPE, one token a digit, and the chat template in its own special tokens.

A space is prepended to every text after a special token, so that a word at the start of an answer has the same tokens
as in the middle of a passage: what is copied is then a run of equal ids. The decoder strips that space again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.starter import lexicon, reading

VOCABULARY = 2048
SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
LONGEST = 2048
TRAINING_EXAMPLES = 6_000

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def texts(count: int) -> Iterator[str]:
    """Training text of the tokenizer: generated conversations and the word lists."""
    words = [*lexicon.common_words(), *lexicon.NOUNS, *lexicon.ADJECTIVES, *lexicon.VERBS]
    for _ in range(80):
        yield from (f" {word}" for word in words)
        yield from (f" {word.capitalize()}" for word in words[::3])
    for seed in range(count):
        yield from (f" {message['content']}" for message in reading.example(seed).messages())


def train(count: int = TRAINING_EXAMPLES) -> PreTrainedTokenizerFast:
    """Train the tokenizer on that many generated conversations and the word lists."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(count), trainer)
    return wrap(tokenizer)


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with its special tokens and the chat template, as transformers saves it."""
    begin, end, padding = SPECIAL[1], SPECIAL[2], SPECIAL[0]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token=end,
        pad_token=padding,
        extra_special_tokens=SPECIAL[3:],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = TEMPLATE
    return fast


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an exported model."""
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return loaded


def encode(tokenizer: Tokenizer, example: reading.Example) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation and, for each, whether it belongs to a reply (its end token included)."""
    return encode_messages(tokenizer, example.messages())


def encode_messages(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    """Token ids and reply marks of messages."""
    bos, eos = 1, 2
    roles = {"system": 3, "user": 4, "assistant": 5}
    ids, answer = [bos], [False]
    for message, encoded in zip(messages, tokenizer.encode_batch_fast([m["content"] for m in messages]), strict=True):
        reply = message["role"] == "assistant"
        piece = encoded.ids + [eos] * reply
        ids += [roles[message["role"]], *piece]
        answer += [False, *[reply] * len(piece)]
    return ids, answer
