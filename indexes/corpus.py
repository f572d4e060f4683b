"""A corpus as a folder: documents, what was quarantined or superseded, splits. Nothing here holds all the documents."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from indexes.loaders.spool import OpenCorpus
from indexes.types import Document
from infra.store import StoredLines, write_atomic, write_lines

_DOCUMENTS, _SPLITS = "documents.jsonl", "splits.json"


def write_corpus(found: OpenCorpus, folder: Path) -> None:
    """Write a corpus that was read into `folder`; the same documents give the same bytes."""
    write_atomic(folder / _DOCUMENTS, found.lines())
    write_lines(folder / "quarantined.jsonl", found.quarantined)
    write_atomic(folder / "superseded.json", json.dumps(found.superseded))
    _write_splits(found.splits, folder)


def write_without(corpus: Path, dropped: Collection[str], folder: Path) -> None:
    """Write the corpus into `folder` without some of its documents; what else it says stays as it is."""
    shutil.copytree(corpus, folder, dirs_exist_ok=True)
    write_lines(folder / _DOCUMENTS, (document for document in documents_in(corpus) if document.id not in dropped))
    _write_splits({name: split for name, split in splits_in(corpus).items() if name not in dropped}, folder)


def documents_in(corpus: Path) -> StoredLines[Document]:
    """The documents, sorted by id."""
    return StoredLines(corpus / _DOCUMENTS, Document)


def splits_in(corpus: Path) -> dict[str, str]:
    """Document id → split, where the corpus says so."""
    found: dict[str, str] = json.loads((corpus / _SPLITS).read_text("utf-8"))
    return found


def _write_splits(splits: dict[str, str], folder: Path) -> None:
    write_atomic(folder / _SPLITS, json.dumps(splits, sort_keys=True))
