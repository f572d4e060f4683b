"""Which engines run for which releases: started, shared, filled with adapters, drained and stopped."""

import fcntl
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.errors import InputError, SetupError, TryAgainError
from infra.processes import ProcessManager, ProcessSpec, Running
from infra.settings import Settings
from infra.store import ArtifactStore, write_atomic
from models.release import ModelPart, Release
from models.serving.control import (
    adapter_config,
    adapter_kind,
    drain,
    load_adapter,
    served_models,
    unload_adapter,
)
from models.serving.local import local_process
from models.serving.pools import MAIN, SMALL, Place, PoolSpec, bound, own
from models.serving.vllm import EngineSpec, adapter_rank, vllm_build, vllm_process

LOG = logging.getLogger("sluice.engine")
ENGINE = "engine-"
"""Process names of engines that serve releases start so."""
TRIAL = "trial-"
"""Process names of engines that only measure start so; `retire` leaves them alone."""


class Placement(BaseModel):
    """Where a release's model answers: server root (without /v1) and the model name to ask for.

    `pools` are all of its engines, that one among them, where it has several; its small model's too, where it routes.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str
    model: str
    pools: tuple[Place, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Every engine of the release."""
        return self.pools or (Place(base_url=self.base_url, model=self.model),)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """`pools` as the records keep them."""
        return [place.model_dump() for place in self.pools]


class _Placed(BaseModel):
    """A placement as kept on disk, with the processes that hold it."""

    engine: str
    """Their names, in the order of the placement's places."""
    placement: Placement

    @property
    def engines(self) -> list[str]:
        """The names one by one."""
        return self.engine.split()


class _Placements(BaseModel):
    releases: dict[str, _Placed] = {}


def _is_adapter(place: Place) -> bool:
    return place.model.startswith("adapter-")


class Deployer:
    """Keeps one engine process a base model. State is on disk: any later process continues where this one ended."""

    def __init__(
        self, settings: Settings, store: ArtifactStore, manager: ProcessManager, spec: EngineSpec | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.manager = manager
        self.spec = spec or EngineSpec()
        self._state = settings.home / "engines" / "placements.json"

    @property
    def kind(self) -> str:
        """vllm or transformers: the setting, otherwise vLLM where it is installed."""
        return self.settings.engine_kind or ("vllm" if vllm_build(self.settings) else "transformers")

    def ensure(self, releases: Sequence[Release]) -> dict[str, Placement]:
        """Serve all of these releases; release digest → placement. What runs already is kept as it is.

        Releases with one base share its engine, their adapters loaded beside each other while it runs.

        Raises: SetupError when an engine does not come up or its port is taken, InputError for an adapter that does
        not fit, IntegrityError for a model whose bytes have changed.
        """
        if self.settings.engine_url:
            return {release.digest: self._remote(release) for release in releases}
        with self._lock():
            placed = self._load()
            for release in releases:
                placed.releases[release.digest] = self._placed(release)
            self._save(placed)
            return {release.digest: placed.releases[release.digest].placement for release in releases}

    def retire(self, keep: Collection[str]) -> list[str]:
        """Stop engines and unload adapters that none of the releases `keep` (digests) needs; the names stopped.

        Take the others out of the gateway's pool first: an engine is drained for at most `drain_s`, then stopped.
        """
        if self.settings.engine_url:
            return []
        with self._lock():
            placed = self._load()
            kept = {digest: entry for digest, entry in placed.releases.items() if digest in keep}
            engines = {name for entry in kept.values() for name in entry.engines}
            stopped = [status.name for status in self.manager.status() if status.name.startswith(ENGINE)]
            stopped = [name for name in stopped if name not in engines]
            for name in stopped:
                self._drain_and_stop(name)
            models = {(place.base_url, place.model) for entry in kept.values() for place in entry.placement.places}
            for entry in placed.releases.values():
                for name, place in zip(entry.engines, entry.placement.places, strict=True):
                    if name in engines and (place.base_url, place.model) not in models and _is_adapter(place):
                        unload_adapter(place.base_url, place.model)
            self._save(_Placements(releases=kept))
        return stopped

    def log(self, model: ModelPart) -> str:
        """What the newest engine of a model's base has written; empty where none was started here."""
        pool = f"-{self.spec.pools[0].name}-0" if self.spec.pools else ""
        path = self.manager.logs / f"{ENGINE}{model.base.digest[:12]}{pool}.log"
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""

    @contextmanager
    def engine_for(
        self, model_folder: Path, adapter: Path | None = None, *, name: str = "sweep", spec: EngineSpec | None = None
    ) -> Iterator[Placement]:
        """An engine of its own to measure `model_folder` (with a LoRA `adapter`), stopped at the end of the block."""
        chosen = spec or self.spec
        if adapter is None:
            chosen = chosen.model_copy(update={"lora": None})
        process = f"{TRIAL}{name}"
        with self._lock():
            adapters = {"adapter": adapter} if adapter is not None else {}
            kind = self.kind_for(adapter)
            running = self.manager.start(
                self._process(chosen, model_folder, self._port(process), adapters, process, "base", kind)
            )
        try:
            yield Placement(base_url=self._url(running.port), model="adapter" if adapter is not None else "base")
        finally:
            self.manager.stop(process)

    def kind_for(self, adapter: Path | None) -> str:
        """The engine that can serve a model with this adapter: vLLM has no prefix tuning, transformers has."""
        return "transformers" if adapter is not None and adapter_kind(adapter) == "PREFIX_TUNING" else self.kind

    def _process(
        self, spec: EngineSpec, folder: Path, port: int, adapters: dict[str, Path], name: str, model: str, kind: str
    ) -> ProcessSpec:
        build = vllm_process if kind == "vllm" else local_process
        return build(spec, folder, port, self.settings, adapters, name=name, model=model)

    def _placed(self, release: Release) -> _Placed:
        """Every engine of a release, started where needed, with its model on it."""
        pools = self.spec.pools or (PoolSpec(name=MAIN),)
        wanted = [(release.model, pool, number) for pool in pools for number in range(pool.replicas)]
        if release.routing:
            wanted.append((release.routing.small, PoolSpec(name=SMALL), 0))
        names, places = [], []
        for model, pool, number in wanted:
            engine = self._engine(model, pool, number)
            url = self._url(engine.port)
            names.append(engine.name)
            places.append(
                Place(
                    pool=pool.name,
                    base_url=url,
                    model=self._serve(url, model),
                    max_prompt_tokens=pool.max_prompt_tokens,
                )
            )
        widest = max(own(places), key=bound)
        several = tuple(places) if len(places) > 1 else ()
        placement = Placement(base_url=widest.base_url, model=widest.model, pools=several)
        return _Placed(engine=" ".join(names), placement=placement)

    def _engine(self, model: ModelPart, pool: PoolSpec, number: int) -> Running:
        """The running engine of a model's base, started where needed: this one of its pool."""
        kind = self.kind_for(self.store.open(model.adapter) if model.adapter else None)
        name = f"{ENGINE}{model.base.digest[:12]}"
        if self.spec.pools:
            name = f"{name}-{pool.name}-{number}"
        if kind != self.kind:
            name = f"{name}-{kind}"
            LOG.warning("%s: %s has no prefix tuning, this release is served by %s", name, self.kind, kind)
        holds_adapters = model.precision == "bf16"
        spec = self.spec.of(pool)
        spec = spec if holds_adapters else spec.model_copy(update={"lora": None})
        process = self._process(
            spec, self.store.open(model.base), self._port(name), {}, name, self._base_name(model), kind
        )
        return self.manager.start(process)

    def _serve(self, url: str, model: ModelPart) -> str:
        """Load the model's adapter where it has one; the name to ask for."""
        if model.adapter is None:
            return self._base_name(model)
        folder = self.store.open(model.adapter)
        self._check_base(model, folder)
        if adapter_kind(folder) != "PREFIX_TUNING":
            self._check_rank(folder)
        name = self._adapter_name(model)
        load_adapter(url, name, folder)
        return name

    def _check_rank(self, adapter: Path) -> None:
        """Raise InputError unless the engine has room for a LoRA adapter of this rank."""
        if self.spec.lora is None:
            raise InputError("engine.lora is null in the policy file, but a release has an adapter; set it")
        rank = adapter_rank(adapter)
        if rank > self.spec.lora.max_rank:
            raise InputError(f"adapter of rank {rank} exceeds engine.lora.max_rank {self.spec.lora.max_rank}; raise it")

    @staticmethod
    def _check_base(model: ModelPart, adapter: Path) -> None:
        """Raise InputError for an adapter that names another base by its content (foreign ones name a path or id)."""
        made_for = str(adapter_config(adapter).get("base_model_name_or_path", ""))
        base = f"model-{model.base.digest[:16]}"
        if made_for.startswith("model-") and made_for != base:
            raise InputError(f"{adapter}: the adapter was made for {made_for}, the release has {base}; train it again")

    def _remote(self, release: Release) -> Placement:
        """The placement on an engine that somebody else runs: it must serve the release's models under their names."""
        url = self.settings.engine_url.rstrip("/").removesuffix("/v1")
        served = served_models(url)
        if release.routing is None:
            return Placement(base_url=url, model=self._found(url, served, release.model, alone=True))
        model = self._found(url, served, release.model)
        small = Place(pool=SMALL, base_url=url, model=self._found(url, served, release.routing.small))
        return Placement(base_url=url, model=model, pools=(Place(base_url=url, model=model), small))

    def _found(self, url: str, served: Sequence[str], model: ModelPart, *, alone: bool = False) -> str:
        """The model's name among those served. `alone`: a single one may have any name, where there is no adapter."""
        wanted = self._adapter_name(model) if model.adapter else self._base_name(model)
        if wanted in served:
            return wanted
        if alone and len(served) == 1 and model.adapter is None:
            return served[0]
        raise SetupError(f"{url} serves {', '.join(served)}, not {wanted}: load it there, or unset SLUICE_ENGINE_URL")

    def _port(self, name: str) -> int:
        """The port that process `name` has, otherwise the lowest that no process of ours has."""
        found = self.manager.alive(name)
        if found is not None:
            return found.port
        used = {status.port for status in self.manager.status() if status.alive}
        return next(port for port in range(self.settings.engine_port, 65536) if port not in used)

    def _drain_and_stop(self, name: str) -> None:
        running = self.manager.alive(name)
        if running is not None:
            with suppress(TryAgainError):  # one that does not answer any more has nothing to drain
                drain(self._url(running.port), self.spec.drain_s)
        self.manager.stop(name)

    def _url(self, port: int) -> str:
        return f"http://{self.settings.host}:{port}"

    @staticmethod
    def _base_name(model: ModelPart) -> str:
        return f"base-{model.base.digest[:12]}"

    @staticmethod
    def _adapter_name(model: ModelPart) -> str:
        assert model.adapter is not None, "asked for the adapter name of a model without one"
        return f"adapter-{model.adapter.digest[:12]}"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One deployer at a time decides about ports and engines."""
        self._state.parent.mkdir(parents=True, exist_ok=True)
        with self._state.with_suffix(".lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _load(self) -> _Placements:
        if not self._state.is_file():
            return _Placements()
        try:
            return _Placements.model_validate_json(self._state.read_bytes())
        except ValidationError as error:
            raise SetupError(f"{self._state}: not a list of placements; delete the file") from error

    def _save(self, placements: _Placements) -> None:
        write_atomic(self._state, placements.model_dump_json(indent=1))
