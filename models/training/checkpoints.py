"""Checkpoints of a training run: which one is whole, and whether it belongs to this run."""

import os
import shutil
from pathlib import Path

from infra.store import canonical_json, file_digest, write_atomic

SEAL = "sealed.json"


def _files(folder: Path) -> dict[str, str]:
    """sha256 of every file of a checkpoint but its seal, by path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in found}


def _sync(folder: Path) -> None:
    """Flush the checkpoint's files, so that a seal on disk means files on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def seal(folder: Path, identity: str) -> None:
    """Mark a checkpoint as whole and as part of run `identity`. Written last: without it the folder does not count."""
    _sync(folder)
    write_atomic(folder / SEAL, canonical_json({"identity": identity, "files": _files(folder)}))


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def last_whole(work_folder: Path, identity: str) -> Path | None:
    """The newest checkpoint of run `identity` whose bytes are what its seal says.

    Every other checkpoint folder (half-written, damaged, of another run) is deleted: the trainer would count it.
    """
    whole: list[Path] = []
    for folder in work_folder.glob("checkpoint-*"):
        seal_file = folder / SEAL
        expected = canonical_json({"identity": identity, "files": _files(folder)})
        if seal_file.is_file() and seal_file.read_text("utf-8") == expected:
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    return max(whole, key=_step, default=None)
