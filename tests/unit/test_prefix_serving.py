"""Prefix tuning on the transformers engine: the virtual tokens stand before every prompt, and only where asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError
from infra.processes import ProcessManager
from infra.settings import settings
from infra.store import LocalStore
from models.release import ModelPart, Release
from models.serving.deployment import Deployer
from models.serving.generation import Generator, replies
from models.training import sft
from models.training.dataset import Dataset
from models.training.spec import TrainSpec
from models.types import Message
from tests.e2e.project import free_ports
from tests.environment import only
from tests.unit.tiny_model import make_base, rows

SPEC = TrainSpec(method="prefix", virtual_tokens=5, epochs=6, batch_size=4, learning_rate=0.1, max_length=128)
CHATS = [list(row.messages[:2]) for row in rows(3)] + [[Message(role="user", content="Question: Who?")]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = sft.train(base, Dataset(rows()), SPEC, tmp_path_factory.mktemp("work"), lambda _: None)
    assert report.merged is None
    assert report.adapter is not None
    return report.adapter


@pytest.fixture
def generator(base: Path) -> Iterator[Generator]:
    made = Generator(base, "base", dtype="float32", max_model_len=200, max_batch=8)
    yield made
    made.close()


def greedy(base: Path, adapter: Path, chat: list[Message], count: int) -> list[int]:
    """peft's own forward pass, one chat at a time and without a cache between tokens."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, adapter).eval()
    ids = tokenizer.apply_chat_template(
        [message.model_dump() for message in chat], add_generation_prompt=True, return_dict=False
    )
    made: list[int] = []
    with torch.inference_mode():
        while len(made) < count and tokenizer.eos_token_id not in made:
            made.append(int(model(input_ids=torch.tensor([[*ids, *made]])).logits[0, -1].argmax()))
    return [token for token in made if token != tokenizer.eos_token_id]


def test_prompts_of_any_length_in_one_batch_are_answered_as_peft_does(
    base: Path, adapter: Path, generator: Generator
) -> None:
    plain = replies(generator, "base", CHATS, 8)
    generator.load_adapter("tuned", adapter)
    expected = [generator.tokenizer.decode(greedy(base, adapter, chat, 8), skip_special_tokens=True) for chat in CHATS]
    assert replies(generator, "tuned", CHATS, 8) == [text.strip() for text in expected]
    assert replies(generator, "base", CHATS, 8) == plain
    generator.unload_adapter("tuned")
    with pytest.raises(InputError, match="does not exist"):
        replies(generator, "tuned", CHATS, 8)


def test_virtual_tokens_take_places_of_the_context(adapter: Path, generator: Generator) -> None:
    generator.load_adapter("tuned", adapter)
    free = 200 - len(generator.encode(CHATS[0], 1))
    generator.encode(CHATS[0], free)
    generator.encode(CHATS[0], free - 5, "tuned")
    with pytest.raises(InputError, match="exceed"):
        generator.encode(CHATS[0], free - 4, "tuned")


def test_a_release_with_a_prefix_runs_on_the_transformers_engine_whatever_was_asked(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    with only(monkeypatch, HOME=tmp_path / "home", ENGINE_PORT=port, ENGINE_KIND="vllm"):
        store, manager = LocalStore(tmp_path / "store"), ProcessManager(settings().home)
        part = ModelPart(base=store.put("model", base), adapter=store.put("adapter", adapter))
        other = store.put("prompt", base)
        release = Release(model=part, prompt=other, index=other, retrieval={}, guards={}, judge="1", code="2")
        deployer = Deployer(settings(), store, manager)
        assert (deployer.kind, deployer.kind_for(adapter)) == ("vllm", "transformers")
        try:
            placed = deployer.ensure([release])[release.digest]
            assert placed.model == f"adapter-{part.adapter.digest[:12]}" if part.adapter else ""
            assert deployer.ensure([release])[release.digest] == placed
        finally:
            manager.stop_all()
