"""The deployer over both engines: sharing, adapters while running, retiring, and finding things again."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import InputError, SetupError
from infra.processes import ProcessManager
from infra.records import Placement as Row
from infra.settings import Settings
from infra.store import ArtifactRef, LocalStore
from models.release import ModelPart, Release, RoutingPart
from models.serving.control import served_models
from models.serving.deployment import Deployer, Placement
from models.serving.engine import OpenAIEngine
from models.serving.pools import PoolSpec, prompt_counter
from models.serving.routes import Engines, places_of
from models.serving.vllm import EngineSpec, vllm_build
from models.types import Message, Sampling

NOTHING = ArtifactRef(kind="prompt", digest="0" * 64, uri="")
ASK = [Message(role="user", content="Which river feeds the reservoir?")]


def release(base: ArtifactRef, adapter: ArtifactRef | None = None, judge: str = "1") -> Release:
    return Release(
        model=ModelPart(base=base, adapter=adapter), prompt=NOTHING, index=NOTHING, retrieval={}, guards={},
        judge=judge, code="1",
    )  # fmt: skip


def answer(placement: Placement) -> str:
    async def ask() -> str:
        engine = OpenAIEngine(placement.base_url, 60)
        try:
            return (await engine.complete(placement.model, ASK, Sampling(8))).text
        finally:
            await engine.close()

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize(
    "deployer", ["transformers", pytest.param("vllm", marks=pytest.mark.engine)], indirect=True
)


@pytest.fixture(params=["transformers"])
def deployer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(home=tmp_path, engine_port=port, engine_kind=request.param)
    if request.param == "vllm" and not vllm_build(settings):
        pytest.skip("no vLLM in the engine environment")
    manager = ProcessManager(tmp_path)
    spec = EngineSpec(kv_cache_gib=0.0625, max_num_seqs=4, drain_s=10)
    yield Deployer(settings, LocalStore(tmp_path / "store"), manager, spec)
    manager.stop_all()


@BOTH
def test_life_of_two_releases(deployer: Deployer, tiny_model: Path, tiny_adapters: dict[int, Path]) -> None:
    base = deployer.store.put("model", tiny_model)
    first, tuned = release(base), release(base, deployer.store.put("adapter", tiny_adapters[8]))

    placed = deployer.ensure([first])[first.digest]
    [engine] = deployer.manager.status()
    plain = answer(placed)

    both = deployer.ensure([first, tuned])
    assert both[first.digest] == placed
    assert both[tuned.digest].base_url == placed.base_url
    assert [status.pid for status in deployer.manager.status()] == [engine.pid]
    assert answer(both[tuned.digest]) != plain

    later = Deployer(deployer.settings, deployer.store, ProcessManager(deployer.settings.home), deployer.spec)
    assert later.ensure([tuned, first]) == both

    too_high = release(base, deployer.store.put("adapter", tiny_adapters[64]))
    with pytest.raises(InputError, match="max_rank"):
        deployer.ensure([too_high])

    assert later.retire({first.digest}) == []
    assert served_models(placed.base_url) == [placed.model]
    assert answer(placed) == plain

    assert later.retire(set()) == [engine.name]
    assert deployer.manager.status() == []
    assert later.retire(set()) == []


def test_pools_of_one_release_are_engines_of_their_own(
    deployer: Deployer, tiny_model: Path, tiny_adapters: dict[int, Path]
) -> None:
    pools = (PoolSpec(name="short", max_prompt_tokens=40, max_model_len=128), PoolSpec(name="long"))
    own = Deployer(
        deployer.settings, deployer.store, deployer.manager, deployer.spec.model_copy(update={"pools": pools})
    )
    base = own.store.put("model", tiny_model)
    first, tuned = release(base), release(base, own.store.put("adapter", tiny_adapters[8]))
    placed = own.ensure([first, tuned])
    assert len(own.manager.status()) == 2
    placement = placed[first.digest]
    short, long = placement.pools
    assert (short.pool, short.max_prompt_tokens, long.pool) == ("short", 40, "long")
    assert placement.base_url == long.base_url != short.base_url

    async def ask() -> tuple[list[str], list[str]]:
        row = Row(release=first.digest, base_url=long.base_url, model=long.model, updated=0.0, pools=placement.rows)
        engine = Engines().chain(places_of(row), 60, prompt_counter(tiny_model))
        long_ask = [Message(role="user", content="Which river feeds the reservoir?" * 3)]
        asks = ([Message(role="user", content="Which river?")], long_ask)
        try:
            well = [(await engine.complete("", ask, Sampling(4))).engine for ask in asks]
            own.manager.stop(f"engine-{base.digest[:12]}-short-0")
            return well, [(await engine.complete("", ask, Sampling(4))).engine for ask in asks]
        finally:
            await engine.close()

    well, without = asyncio.run(ask())
    assert well == [f"short:{short.model}", f"long:{long.model}"]
    assert without == [f"long:{long.model}"] * 2
    own.ensure([first, tuned])
    own.retire({first.digest})
    assert all(served_models(place.base_url) == [place.model] for place in placement.pools)
    assert len(own.retire(set())) == 2


def test_the_small_model_of_a_release_is_served_beside_it(
    deployer: Deployer, tiny_model: Path, tiny_adapters: dict[int, Path]
) -> None:
    base = deployer.store.put("model", tiny_model)
    small = ModelPart(base=deployer.store.put("quantized", tiny_model))
    tuned = release(base, deployer.store.put("adapter", tiny_adapters[8]))
    routed = tuned.model_copy(update={"routing": RoutingPart(small=small, difficulty=NOTHING, threshold=0.5)})
    placement = deployer.ensure([routed])[routed.digest]
    large, little = placement.places
    assert (large.pool, large.base_url, large.model) == ("main", placement.base_url, placement.model)
    assert (little.pool, little.model) == ("small", f"base-{small.base.digest[:12]}")
    assert little.base_url != large.base_url
    assert served_models(little.base_url) == [little.model]

    async def ask() -> str:
        placed = Engines().small(placement.places, 60)
        try:
            return (await placed.engine.complete(placed.name, ASK, Sampling(4))).engine
        finally:
            await placed.engine.close()

    assert asyncio.run(ask()) == f"small:{little.model}"
    assert deployer.retire({routed.digest}) == []
    assert len(deployer.retire(set())) == 2


def test_trial_engine_runs_beside_and_ends_with_its_block(
    deployer: Deployer, tiny_model: Path, tiny_adapters: dict[int, Path]
) -> None:
    with deployer.engine_for(tiny_model, tiny_adapters[16]) as placement:
        assert placement.base_url.endswith(str(deployer.settings.engine_port))
        assert served_models(placement.base_url) == ["base", "adapter"]
        assert answer(placement)
        deployer.retire(set())
        assert [status.name for status in deployer.manager.status()] == ["trial-sweep"]
    assert deployer.manager.status() == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_another_base_gets_another_port(tmp_path: Path, tiny_model: Path) -> None:
    port = free_port()
    settings = Settings(home=tmp_path, engine_port=port, engine_kind="transformers")
    deployer = Deployer(settings, LocalStore(tmp_path / "store"), ProcessManager(tmp_path))
    base = deployer.store.put("model", tiny_model)
    try:
        placed = deployer.ensure([release(base), release(deployer.store.put("quantized", tiny_model))])
        assert {placement.base_url[-5:] for placement in placed.values()} == {str(port), str(port + 1)}
        kept = release(base)
        assert len(deployer.retire([kept.digest])) == 1
        assert answer(placed[kept.digest])
    finally:
        deployer.manager.stop_all()


def test_engine_that_does_not_come_up_says_why(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    settings = Settings(home=tmp_path, engine_port=free_port(), engine_kind="transformers")
    deployer = Deployer(settings, LocalStore(tmp_path / "store"), ProcessManager(tmp_path))
    with pytest.raises(SetupError, match="exited with code 1 while starting"):
        deployer.ensure([release(deployer.store.put("model", folder))])
    assert deployer.manager.status() == []
    with pytest.raises(SetupError, match="no such model folder"), deployer.engine_for(tmp_path / "missing"):
        pass


def test_taken_engine_port_names_its_setting(tmp_path: Path, tiny_model: Path) -> None:
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        settings = Settings(home=tmp_path, engine_port=foreign.getsockname()[1], engine_kind="transformers")
        deployer = Deployer(settings, LocalStore(tmp_path / "store"), ProcessManager(tmp_path))
        with pytest.raises(SetupError, match="SLUICE_ENGINE_PORT"), deployer.engine_for(tiny_model):
            pass
