"""A Llama of 40 thousand random parameters with its own tokenizer, and rows and pairs to train it on."""

from pathlib import Path
from typing import Any

from models.training.rows import PreferenceRow, TrainingRow
from models.types import Message

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]


def rows(count: int = 16) -> list[TrainingRow]:
    made = []
    for number in range(count):
        chat = (
            Message(role="system", content="Answer from the passages."),
            Message(role="user", content=f"[1] Gate {number}: opens at {number} o'clock.\n\nQuestion: When?"),
            Message(role="assistant", content=f"{number} o'clock [1]"),
            Message(role="user", content="Question: Who?"),
            Message(role="assistant", content="The passages do not say."),
        )
        made.append(TrainingRow(messages=chat[: 3 if number % 3 else 5], source=f"case:{number}"))
    return made


def pairs(count: int = 16) -> list[PreferenceRow]:
    """The hour with its citation is preferred to the hour alone."""
    made = []
    for row in rows(count):
        prompt, answer = row.messages[:2], row.messages[2].content
        made.append(
            PreferenceRow(prompt=prompt, chosen=answer, rejected=answer.removesuffix(" [1]"), source=row.source)
        )
    return made


def make_base(folder: Path, template: str | None = TEMPLATE, pad: str | None = "<pad>") -> Path:
    """Write the model into `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [message.content for row in rows() for message in row.messages]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token=pad, padding_side="left"
    )
    fast.chat_template = template
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=320, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def content(folder: Path | None) -> dict[str, bytes]:
    """Name → bytes of the files in a folder; nothing for None."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder else {}
