"""What the bench of ingest measures: its documents, and stages that compute what a run from nothing would."""

from pathlib import Path

import pytest

from evaluation.benches.ingesting.chain import Chain
from evaluation.benches.ingesting.documents import document, write_documents
from evaluation.benches.ingesting.peak import peak_mib
from indexes.build import read_card
from indexes.chunkers.spec import ChunkSpec
from indexes.fake import HashingEmbedder
from infra.settings import ROOT

TOKENIZER = ROOT / "models" / "starter" / "weights"


def test_documents_are_the_same_for_the_same_number_and_differ_otherwise(tmp_path: Path) -> None:
    texts = [document(number) for number in range(200)]
    assert texts == [document(number) for number in range(200)]
    assert len({text.split("\n", 5)[5] for text in texts}) == 200
    assert all(250 < len(text) < 700 for text in texts)
    write_documents(tmp_path, 200)
    before = {path: path.read_text("utf-8") for path in tmp_path.rglob("*.md")}
    assert sorted(before.values()) == sorted(texts)
    write_documents(tmp_path, 200, changed=0.05)
    assert sum(path.read_text("utf-8") != text for path, text in before.items()) == 10


def test_a_changed_part_is_computed_and_ends_as_from_nothing(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    chain = Chain(tmp_path / "one", TOKENIZER, ChunkSpec())
    write_documents(tmp_path / "one" / "documents", 40)
    first = chain.index(embedder)
    assert embedder.embedded == 40
    assert read_card(Path(first.uri) / "files").documents == 40
    assert chain.index(embedder) == first
    write_documents(tmp_path / "one" / "documents", 40, changed=0.1)
    changed = chain.index(embedder)
    assert embedder.embedded == 44
    assert changed.digest != first.digest
    chain.forget()
    assert chain.index(embedder) == changed
    assert embedder.embedded == 44

    other = Chain(tmp_path / "other", TOKENIZER, ChunkSpec())
    write_documents(tmp_path / "other" / "documents", 40, changed=0.1)
    assert other.index(embedder).digest == changed.digest
    assert embedder.embedded == 84


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
def test_the_peak_never_falls() -> None:
    before = peak_mib()
    block = b"x" * ((int(before) + 64) << 20)
    held = peak_mib()
    del block
    assert before > 10
    assert min(held, peak_mib()) > before + 60
