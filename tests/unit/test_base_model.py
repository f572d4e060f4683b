"""The base model: a folder is taken without pickled weights, and what is no model is named."""

from pathlib import Path

import pytest

from infra.errors import InputError
from infra.settings import ROOT
from models.base import is_hub_id, resolve_model

WEIGHTS = ROOT / "models" / "starter" / "weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md", "pytorch_model.bin", "run.py"):
        (made / name).write_text(name)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def test_the_starter_is_a_model(target: Path) -> None:
    resolve_model(str(WEIGHTS), target)
    assert (target / "model.safetensors").read_bytes() == (WEIGHTS / "model.safetensors").read_bytes()
    assert (target / "chat_template.jinja").is_file()


def test_only_safe_files_are_taken(folder: Path, target: Path) -> None:
    resolve_model(str(folder), target)
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_a_folder_lacks_is_named(folder: Path, target: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"model: .*lacks \*?{Path(name).suffix if 'safe' in name else name}"):
        resolve_model(str(folder), target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("model", ["./model", "/model", "~/model", "one", "a/b/c", "org/", "/name", "org/na me"])
def test_what_is_neither_folder_nor_id(target: Path, model: str) -> None:
    with pytest.raises(InputError, match="is no folder; name a model folder or a Hugging Face id such as org/name"):
        resolve_model(model, target)


@pytest.mark.parametrize("model", ["org/name", "Qwen/Qwen2.5-0.5B-Instruct", "a_b/c.d"])
def test_forms_of_ids(model: str) -> None:
    assert is_hub_id(model)
