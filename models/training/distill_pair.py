"""Whether a student and a teacher belong together: how much smaller it is, and whether their tokens are the same."""

import json
import math
from pathlib import Path

from infra.errors import InputError
from models.training.adapters import check_model_folder


def count_parameters(folder: Path) -> int:
    """Parameters of a model, counted from the headers of its safetensors: no weight is read.

    Raises: SetupError for a folder that is no model, InputError for a file that is no safetensors.
    """
    from safetensors import SafetensorError, safe_open

    check_model_folder(folder)
    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping
        except SafetensorError as error:
            raise InputError(f"{path}: no whole safetensors file: {error}") from error
    return count


def check_ratio(student: int, teacher: int, least: float) -> None:
    """Raise InputError unless the teacher has at least `least` times the parameters of the student."""
    if teacher < least * student:
        raise InputError(
            f"distillation: the teacher has {teacher:,} parameters and the student {student:,}, which is"
            f" {teacher / student:.2f} times fewer; distillation.least_ratio asks for {least:g}: name a smaller student"
        )


def check_same_tokens(student: Path, teacher: Path) -> None:
    """Raise InputError unless both models give every token the same number and the same number of logits.

    Only then can the teacher's distribution over the next token be compared with the student's.
    """
    ours, theirs = _vocabulary(student), _vocabulary(teacher)
    if ours != theirs:
        different = sum(ours.get(token) != number for token, number in theirs.items())
        raise InputError(
            f"distillation.logits: student and teacher have other tokens ({len(ours)} and {len(theirs)}, {different} of"
            " the teacher's differ); logits cannot be compared: set `logits: null` to learn from its answers alone"
        )
    sizes = [_logits(folder) for folder in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"distillation.logits: the student gives {sizes[0]} logits a token and the teacher {sizes[1]}; they cannot"
            " be compared: set `logits: null` to learn from its answers alone"
        )


def _vocabulary(folder: Path) -> dict[str, int]:
    from transformers import AutoTokenizer

    found: dict[str, int] = AutoTokenizer.from_pretrained(folder, local_files_only=True).get_vocab()
    return found


def _logits(folder: Path) -> int | None:
    """Size of the output: `vocab_size`, which models with images keep in `text_config`."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    found: int | None = config.get("text_config", config).get("vocab_size")
    return found
