"""Settings from the environment, and the loader of the one policy file. Nothing else reads the environment."""

import logging
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import PolicyError

ROOT = Path(__file__).resolve().parent.parent

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "RAGAS_DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LLM_COMPRESSOR_LOG_LEVEL": "ERROR",  # it writes to standard output, which --json keeps for one object
}
NOISY = ("torch.utils._pytree", "torchao", "alembic")
"""Loggers that tell of their own build while they are imported, or of every step of a migration."""


class Settings(BaseSettings):
    """Where things are on this machine. Each field is an environment variable `SLUICE_<FIELD>`; empty: its default."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", env_ignore_empty=True, frozen=True, extra="forbid")

    home: Path = Field(ROOT / ".sluice", description="State folder: store, databases, logs, process files")
    policy: Path = Field(ROOT / "sluice.yaml", description="The policy file")
    store: str = Field("", description="Artifact store: a folder or s3://bucket/prefix; empty = <home>/store")
    database: str = Field("", description="SQLAlchemy URL of the records; empty = SQLite under <home>")
    redis_url: SecretStr = Field(
        SecretStr(""), description="Redis for limits and cached answers that several gateways share; empty = none"
    )
    host: str = Field("127.0.0.1", description="Address every server of `sluice up` binds to")
    prefect_port: int = Field(4200, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)
    gateway_port: int = Field(8800, ge=1, le=65535)
    runner_port: int = Field(8801, ge=1, le=65535)
    exporter_port: int = Field(8802, ge=1, le=65535)
    engine_port: int = Field(8810, ge=1, le=65535, description="First of the ports that engines take")
    prefect_url: str = Field("", description="API of a remote Prefect server; empty = `sluice up` starts one")
    mlflow_url: str = Field("", description="URL of a remote MLflow server; empty = `sluice up` starts one")
    otlp_url: str = Field("", description="OpenTelemetry collector that gets the traces in place of MLflow")
    otlp_headers: SecretStr = Field(SecretStr(""), description="Its headers: name=value, divided by commas")
    engine_url: str = Field("", description="OpenAI-compatible address to use in place of own engines")
    embedding_api_key: SecretStr = Field(SecretStr(""), description="Bearer token of `embedding.endpoint`")
    benchmark_api_key: SecretStr = Field(SecretStr(""), description="Bearer token of `benchmark.endpoint`")
    teacher_api_key: SecretStr = Field(SecretStr(""), description="Bearer token of `training_data.teacher.endpoint`")
    hosted_api_key: SecretStr = Field(SecretStr(""), description="Bearer token of `gateway.hosted`")
    engine_kind: str = Field("", pattern="^(|vllm|transformers)$", description="Empty = vllm where .venv-engine has it")
    engine_python: Path = Field(ROOT / ".venv-engine/bin/python", description="Python of the environment with vLLM")
    disk_python: Path = Field(ROOT / ".venv-disk/bin/python", description="Python of the environment with DiskANN")
    engine_start_timeout_s: float = Field(300, gt=0)
    corpora: Path = Field(ROOT.parent / "shared" / "corpora", description="Real public data that benches read")
    threads: int = Field(1, ge=1, description="Compute threads of one process (more is slower on shared cores)")

    @field_validator("home", "policy", "engine_python", "disk_python", "corpora")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        """The processes that are started run in another folder: a relative path must not change its meaning."""
        return path.expanduser().absolute()

    @field_validator("store")
    @classmethod
    def _absolute_store(cls, store: str) -> str:
        return store if "://" in store or not store else str(Path(store).expanduser().absolute())

    @property
    def store_url(self) -> str:
        """Address of the artifact store."""
        return self.store or str(self.home / "store")

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the records database."""
        return self.database or f"sqlite:///{self.home / 'records.sqlite'}"

    @property
    def mlflow_address(self) -> str:
        """Tracking URI."""
        return self.mlflow_url or f"http://{self.host}:{self.mlflow_port}"

    @property
    def prefect_address(self) -> str:
        """URL of the Prefect API."""
        return self.prefect_url or f"http://{self.host}:{self.prefect_port}/api"

    @property
    def gateway_address(self) -> str:
        """URL of the gateway."""
        return f"http://{self.host}:{self.gateway_port}"

    def quiet_environment(self) -> dict[str, str]:
        """Variables that a started process gets: no telemetry, few threads, offline hub."""
        threads = str(self.threads)
        return QUIET | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once.

    Raises: PolicyError naming the variable that is unknown or wrong.
    """
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith("SLUICE_") and name not in known)
    if unknown:
        raise PolicyError(f"unknown setting {unknown[0]}: known ones are {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "SLUICE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise PolicyError(f"{name}: {first['msg']} (got {first.get('input')!r})") from error


def use_policy(path: Path | None) -> Path:
    """Make `path` the policy file of this process and of those it starts; returns the one that holds."""
    chosen = (path or settings().policy).resolve()
    os.environ["SLUICE_POLICY"] = str(chosen)
    settings.cache_clear()
    return chosen


def be_quiet() -> None:
    """Apply the quiet environment to this process, leaving what the user set. Call before heavy imports."""
    for name, value in settings().quiet_environment().items():
        os.environ.setdefault(name, value)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _say_bounds(schema: dict[str, Any]) -> None:
    """Put the bounds of number fields into their descriptions: forms made from the schema show only those."""
    for field in schema.get("properties", {}).values():
        bounds = [f"{words} {field[name]:g}" for name, words in BOUNDS.items() if name in field]
        if bounds and "description" in field:
            field["description"] = f"{field['description'].removesuffix('.')} ({', '.join(bounds)})."


class Spec(BaseModel):
    """Base of every component's spec: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra=_say_bounds)


AnySpec = TypeVar("AnySpec", bound=Spec)


class Policy:
    """The policy file as read: each component takes its own section with `section(name, SpecType)`."""

    def __init__(self, path: Path, overrides: Mapping[str, Any] | None = None) -> None:
        """`overrides` hold for one run: dotted field (`training.method`) → value.

        Raises: PolicyError for a file that cannot be read and for an override that names no field of a section.
        """
        if not path.is_file():
            raise PolicyError(f"{path}: no policy file; copy sluice.yaml from the project or set SLUICE_POLICY")
        try:
            loaded = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise PolicyError(f"{path}: not readable as YAML: {error}") from error
        if not isinstance(loaded, dict):
            raise PolicyError(f"{path}: must be a mapping of sections")
        self.path = path
        self.sections: dict[str, Any] = loaded
        for name, value in (overrides or {}).items():
            self._override(name, value)

    def _override(self, name: str, value: Any) -> None:
        """Put `value` at a dotted place; what lies on the way and is missing begins empty."""
        *way, field = name.split(".")
        place: Any = self.sections
        for part in way:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
            if not isinstance(place, dict):
                raise PolicyError(f"override {name}: {part} holds a value, not fields")
        if not way:
            raise PolicyError(f"override {name!r}: write section.field, such as training.method")
        place[field] = value

    def section(self, name: str, spec: type[AnySpec]) -> AnySpec:
        """Section `name` as `spec`. Raises PolicyError naming file, section and field."""
        try:
            return spec.model_validate(self.sections.get(name) or {})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join([name, *(str(part) for part in first["loc"])])
            raise PolicyError(f"{self.path}: {field}: {first['msg']} (got {first.get('input')!r})") from error

    def folder(self, relative: str) -> Path:
        """A path of the policy, relative to the policy file's own folder."""
        return (self.path.parent / relative).resolve()


def policy() -> Policy:
    """The policy file that the settings name."""
    return Policy(settings().policy)
