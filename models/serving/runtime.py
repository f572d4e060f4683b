"""The pipelines a gateway holds: one a release, built from the store by digest, sharing indexes and engines."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from pydantic import ValidationError

from indexes.build import load_index
from indexes.retriever import Retriever
from indexes.types import Embedder
from infra.errors import InputError, SetupError
from infra.records import Placement, Records
from infra.store import ArtifactStore
from models.answering.pipeline import AnswerSpec, Pipeline, build_pipeline, spec_of
from models.release import Release
from models.serving.pools import own, prompt_counter
from models.serving.routes import Engines, places_of

KEPT = 6
"""Pipelines kept in memory; the one that was used longest ago goes first."""

OpenEmbedder = Callable[[AnswerSpec], Embedder]
Builder = Callable[[str, Placement], Pipeline]
"""(release digest, placement) → pipeline; called in a thread, because loading an index takes seconds."""


def load_release(records: Records, digest: str) -> Release:
    """A registered release. Raises InputError when it is unknown, SetupError when another version registered it."""
    row = records.release(digest)
    if row is None:
        raise InputError(f"release {digest[:12]}: not registered")
    try:
        release = Release.model_validate(row.release)
    except ValidationError as error:
        raise SetupError(f"release {digest[:12]}: {error.errors()[0]['msg']}; register it again") from error
    if release.digest != digest:
        raise SetupError(f"release {digest[:12]}: its bundle has digest {release.digest[:12]}; register it again")
    return release


class ReleaseBuilder:
    """Builds pipelines from records and store; one engine client an address, one retriever an index and spec."""

    def __init__(self, records: Records, store: ArtifactStore, open_embedder: OpenEmbedder, engines: Engines) -> None:
        self._records = records
        self._store = store
        self._open_embedder = open_embedder
        self._engines = engines
        self._retrievers: dict[str, Retriever] = {}

    def __call__(self, release: str, placement: Placement) -> Pipeline:
        """The pipeline of a registered release: see Builder."""
        bundle = load_release(self._records, release)
        spec = spec_of(bundle)
        embedder = self._open_embedder(spec)
        name = f"{bundle.index.digest} {embedder.version} {spec.search.model_dump_json()}"
        if name not in self._retrievers:
            self._retrievers[name] = load_index(self._store.open(bundle.index), embedder, spec.search)
        places = places_of(placement)
        count = prompt_counter(self._store.open(bundle.model.base)) if len(own(places)) > 1 else None
        timeout_s = spec.generation.timeout_s
        return build_pipeline(
            bundle,
            self._store,
            embedder,
            placement,
            retriever=self._retrievers[name],
            engine=self._engines.chain(places, timeout_s, count),
            small=self._engines.small(places, timeout_s, count) if bundle.routing else None,
        )


def _key(release: str, placement: Placement) -> tuple[str, str]:
    """A release where it is placed now: all of it, so that a pool that comes or goes makes another pipeline."""
    return release, f"{placement.base_url} {placement.model} {placement.pools}"


class Runtime:
    """Pipelines by release and placement: built once, however many requests ask at the same moment."""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._lock = asyncio.Lock()
        self._pipelines: OrderedDict[tuple[str, str], Pipeline] = OrderedDict()

    def loaded(self, release: str) -> bool:
        """Whether a request to this release would find its pipeline ready."""
        return any(name == release for name, _ in self._pipelines)

    def ready(self, release: str, placement: Placement) -> Pipeline | None:
        """The release's pipeline, where it is built."""
        return self._pipelines.get(_key(release, placement))

    async def pipeline(self, release: str, placement: Placement) -> Pipeline:
        """The release's pipeline, built in a thread when it is not there."""
        key = _key(release, placement)
        if key not in self._pipelines:
            async with self._lock:
                if key not in self._pipelines:
                    self._pipelines[key] = await asyncio.to_thread(self._build, release, placement)
                    self._forget(release, key)
        self._pipelines.move_to_end(key)
        return self._pipelines[key]

    def _forget(self, release: str, newest: tuple[str, str]) -> None:
        """Drop the same release on an engine it has left, and what was used longest ago."""
        for key in [key for key in self._pipelines if key[0] == release and key != newest]:
            del self._pipelines[key]
        while len(self._pipelines) > KEPT:
            self._pipelines.popitem(last=False)

    async def close(self) -> None:
        """Close the engines' clients. Nothing may be in flight any more."""
        engines = [engine for pipeline in self._pipelines.values() for engine in pipeline.engines]
        for engine in {id(engine): engine for engine in engines}.values():
            await engine.close()
