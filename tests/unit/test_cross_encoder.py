"""A cross-encoder is trained from pairs, the same ones to the same bytes, and then ranks as a reranker."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from indexes.rerank_training import Asked, CrossEncoderSpec, Pair, mined_pairs, train_cross_encoder
from indexes.rerankers import CrossEncoderReranker, RerankSpec, pinned
from infra.errors import InputError, SetupError
from infra.store import file_digest
from tests.tiny_encoder import save_tiny

PLACES = ["north", "south", "old", "new", "lower", "upper", "first", "last"]
PAIRS = [
    Pair(question=f"Where is the {place} pump?", passage=f"{start} the {place} {kind}.", relevant=kind == "pump")
    for place in PLACES
    for start in ("Behind the mill stands", "By the river lies")
    for kind in ("pump", "garden")
]
SPEC = CrossEncoderSpec(base="tiny", epochs=8, learning_rate=1e-2, max_tokens=32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy's folder with the encoder `tiny` and with `reranker`, which was trained from it."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "tiny")
    train_cross_encoder(PAIRS, SPEC, folder, folder / "reranker")
    return folder


def test_the_same_pairs_give_the_same_bytes_and_the_loss_falls(root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = train_cross_encoder(PAIRS, SPEC, root, tmp_path, lambda step, steps, _: seen.append((step, steps)))
    assert (report.pairs, report.positives, report.steps) == (32, 16, 32)
    assert seen == [(step, 32) for step in range(1, 33)]
    assert np.mean(report.losses[-4:]) < 0.2 < 0.6 < np.mean(report.losses[:4])
    for name in ("model.safetensors", "training.json", "tokenizer.json"):
        assert file_digest(tmp_path / name) == file_digest(root / "reranker" / name)


def test_a_trained_cross_encoder_ranks_by_question_and_text(root: Path) -> None:
    reranker = CrossEncoderReranker(RerankSpec(kind="cross-encoder", model="reranker"), root)
    texts = ["Over the hill lies the north garden.", "Over the hill lies the north pump."]
    scores = reranker.scores("Where is the north pump?", [7, 3], texts)
    assert scores.dtype == np.float32
    assert int(np.argmax(scores)) == 1
    assert np.array_equal(scores[::-1], reranker.scores("Where is the north pump?", [3, 7], texts[::-1]))
    wide = CrossEncoderReranker(RerankSpec(kind="cross-encoder", model="reranker", batch_size=2), root)
    assert np.allclose(wide.scores("Where is the north pump?", [7, 3], texts), scores, atol=1e-5)
    assert wide.version == reranker.version
    untrained = CrossEncoderReranker(RerankSpec(kind="cross-encoder", model="tiny"), root)
    assert untrained.version != reranker.version


def test_models_that_cannot_rerank_are_named(root: Path) -> None:
    save_tiny(root / "two", labels=2)
    with pytest.raises(SetupError, match="gives 2 scores a pair"):
        CrossEncoderReranker(RerankSpec(kind="cross-encoder", model="two"), root)
    (root / "empty").mkdir()
    with pytest.raises(SetupError, match=r"rerank\.model: .* holds no safetensors"):
        CrossEncoderReranker(RerankSpec(kind="cross-encoder", model="empty"), root)
    with pytest.raises(InputError, match="neither a folder nor a Hugging Face id"):
        CrossEncoderReranker(RerankSpec(kind="cross-encoder", model="not/a/model/id"), root)


@pytest.mark.parametrize("fields", [{"kind": "cross-encoder"}, {"kind": "late-interaction", "model": "reranker"}])
def test_a_model_is_named_for_a_cross_encoder_and_for_nothing_else(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="model must be named for a cross-encoder"):
        RerankSpec.model_validate(fields)


def test_wrong_passages_are_the_best_found_that_do_not_answer() -> None:
    texts = {name: name.upper() for name in "abcdef"}
    asked = [
        Asked(question="q", relevant=frozenset("bf")),
        Asked(question="r", relevant=frozenset("x")),
    ]
    pairs = mined_pairs(asked, lambda question: "abcdef", texts, negatives=2)
    assert [(pair.question, pair.passage, pair.relevant) for pair in pairs] == [
        ("q", "B", True),
        ("q", "F", True),
        ("q", "A", False),
        ("q", "C", False),
    ]


def test_nothing_is_learnt_from_one_kind_of_pair(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 of 2 pairs are right"):
        train_cross_encoder([pair for pair in PAIRS if pair.relevant][:2], SPEC, root, tmp_path)


def test_a_release_is_bound_to_the_weights_it_was_measured_with(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "reranker", tmp_path / "reranker")
    bound = pinned(RerankSpec(kind="cross-encoder", model="reranker"), tmp_path)
    assert CrossEncoderReranker(bound, tmp_path).version == CrossEncoderReranker(bound, root).version
    (tmp_path / "reranker" / "config.json").open("a").write("\n")
    with pytest.raises(SetupError, match=r"rerank.model: .* other files than the release"):
        CrossEncoderReranker(bound, tmp_path)
