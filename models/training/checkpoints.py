"""Checkpoints of a training run: which one is whole, and whether it belongs to this run."""

import json
import os
import shutil
from collections.abc import Sequence
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


def seal(folder: Path, identity: str, needs: Sequence[str] = ()) -> None:
    """Mark a checkpoint as whole and as part of run `identity`. Written last: without it the folder does not count.

    `needs` names the checkpoints beside it that its state points to: the best one so far.
    """
    _sync(folder)
    write_atomic(folder / SEAL, canonical_json(_seal(folder, identity, needs)))


def _seal(folder: Path, identity: str, needs: Sequence[str]) -> dict[str, object]:
    others = sorted(name for name in needs if name != folder.name)
    return {"identity": identity, "files": _files(folder), "needs": others}


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _needs(folder: Path) -> list[str]:
    """The checkpoints that a sealed one points to."""
    names: list[str] = json.loads((folder / SEAL).read_text("utf-8"))["needs"]
    return names


def last_whole(work_folder: Path, identity: str) -> Path | None:
    """The newest checkpoint of run `identity` whose bytes are what its seal says, and those that it needs, too.

    Every other checkpoint folder (half-written, damaged, of another run) is deleted: the trainer would count it.
    """
    whole: dict[str, Path] = {}
    for folder in work_folder.glob("checkpoint-*"):
        if _is_whole(folder, identity):
            whole[folder.name] = folder
        else:
            shutil.rmtree(folder)
    while lacking := [folder for folder in whole.values() if not set(_needs(folder)) <= set(whole)]:
        for folder in lacking:
            shutil.rmtree(whole.pop(folder.name))
    return max(whole.values(), key=_step, default=None)


def _is_whole(folder: Path, identity: str) -> bool:
    seal_file = folder / SEAL
    if not seal_file.is_file():
        return False
    try:
        needs = _needs(folder)
    except (ValueError, KeyError):  # a seal that was damaged or written by an earlier version
        return False
    return seal_file.read_text("utf-8") == canonical_json(_seal(folder, identity, needs))
