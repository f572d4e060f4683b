"""Contract of the places where answers are kept, in the process and in Redis: places, age, room, vectors, scopes."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import numpy as np
import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.serving.cache.entries import Entry, Place
from models.serving.cache.questions import packed
from models.serving.cache.redis_store import RedisStore
from models.serving.cache.spec import CacheSpec
from models.serving.cache.store import CacheStore, MemoryStore
from models.types import Citation

REDIS = "redis://127.0.0.1:6379/9"
SPEC = CacheSpec(exact=True, ttl_s=100, stale_s=50, max_entries=1000, max_mib=4)
Open = Callable[..., CacheStore]


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis_prefix() -> Iterator[str]:
    """A prefix of its own on the local Redis, emptied afterwards."""
    with SyncRedis.from_url(REDIS, socket_connect_timeout=1) as client:
        try:
            client.ping()
        except (RedisError, OSError) as error:
            pytest.skip(f"no Redis at {REDIS}: {error}")
        prefix = f"sluice-test:{uuid.uuid4().hex}"
        yield prefix
        for key in client.scan_iter(f"{prefix}:*", count=1000):
            client.delete(key)


@pytest.fixture(params=["memory", "redis"])
def prefix(request: pytest.FixtureRequest) -> str:
    """Where the store lies: empty for the process itself."""
    return str(request.getfixturevalue("redis_prefix")) if request.param == "redis" else ""


@pytest.fixture
async def opened(prefix: str, clock: Clock) -> AsyncIterator[Open]:
    stores: list[CacheStore] = []

    def start(spec: CacheSpec = SPEC) -> CacheStore:
        stores.append(RedisStore(REDIS, spec, prefix, clock) if prefix else MemoryStore(spec, clock))
        return stores[-1]

    yield start
    for store in stores:
        await store.close()


def entry(place: Place, answer: str = "14 days", created: float = 1_000_000.0, vector: str = "") -> Entry:
    passage = Citation(number=1, document="d", chunk="c", title="Guide", text="It is 14 days.")
    return Entry(
        scope=place.scope, name=place.name, created=created, origin="f" * 32, question=f"question {place.name}",
        vector=vector, answer=answer, refused=False, release="a" * 64, path="answers", engine="", cited=(1,),
        passages=(passage,), retrieved=("d",),
    )  # fmt: skip


def unit(*values: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


async def test_what_is_put_lies_in_its_place_alone(opened: Open) -> None:
    store = opened()
    places = [Place(scope, name) for scope in ("s1", "s2") for name in ("n1", "n2")]
    assert [await store.get(place) for place in places] == [None] * 4
    await store.put(places[0], entry(places[0], "first"))
    await store.put(places[3], entry(places[3], "second"))
    await store.put(places[0], entry(places[0], "newer"))
    found = [await store.get(place) for place in places]
    assert [one.answer if one else None for one in found] == ["newer", None, None, "second"]
    assert found[0] == entry(places[0], "newer")
    assert store.faults == 0


async def test_it_is_gone_when_it_is_older_than_both_spans(opened: Open, clock: Clock) -> None:
    store, place = opened(), Place("s", "n")
    await store.put(place, entry(place, created=clock.now))
    clock.now += 149
    assert await store.get(place) is not None
    clock.now += 2
    assert await store.get(place) is None


async def test_questions_of_the_scope_by_similarity(opened: Open) -> None:
    store = opened()
    vectors = {"a": unit(1, 0, 0), "b": unit(1, 0.1, 0), "c": unit(0, 1, 0)}
    for name, vector in vectors.items():
        await store.put(Place("s", name), entry(Place("s", name), vector=packed(vector)))
    await store.put(Place("other", "a"), entry(Place("other", "a"), vector=packed(vectors["a"])))
    await store.put(Place("s", "plain"), entry(Place("s", "plain")))
    near = await store.near("s", unit(1, 0, 0), 0.9)
    assert [(one.place, one.question) for one in near] == [
        (Place("s", "a"), "question a"), (Place("s", "b"), "question b"),
    ]  # fmt: skip
    assert [one.similarity for one in near] == pytest.approx([1.0, 0.995], abs=1e-3)
    assert await store.near("third", unit(1, 0, 0), 0.0) == []
    assert await store.near("s", unit(1, 0), 0.0) == []


async def test_what_is_put_again_has_its_new_vector_alone(opened: Open) -> None:
    store, place = opened(), Place("s", "n")
    await store.put(place, entry(place, vector=packed(unit(1, 0))))
    await store.put(place, entry(place, vector=packed(unit(0, 1))))
    assert await store.near("s", unit(1, 0), 0.9) == []
    assert [one.place for one in await store.near("s", unit(0, 1), 0.9)] == [place]


async def test_what_is_larger_than_the_room_is_not_kept(opened: Open) -> None:
    store, place = opened(SPEC.model_copy(update={"max_mib": 0.01})), Place("s", "n")
    await store.put(place, entry(place, "x" * 20_000))
    assert await store.get(place) is None


async def test_no_look_up_finds_what_another_scope_keeps(opened: Open) -> None:
    """Planted: every scope keeps the same questions with the same vectors, each with an answer that names its scope."""
    store = opened()
    random, scopes, names = np.random.default_rng(7), [f"scope{n}" for n in range(20)], [f"name{n}" for n in range(10)]
    vectors = [unit(*(float(random.normal()) for _ in range(8))) for _ in names]
    for scope in scopes[:15]:
        for name, vector in zip(names, vectors, strict=True):
            place = Place(scope, name)
            await store.put(place, entry(place, f"{scope} {name}", vector=packed(vector)))
    for _ in range(2000):
        number = int(random.integers(len(names)))
        place = Place(scopes[int(random.integers(len(scopes)))], names[number])
        found = await store.get(place)
        near = await store.near(place.scope, vectors[number], 0.99)
        if place.scope in scopes[:15]:
            assert found is not None
            assert found.answer == f"{place.scope} {place.name}"
            assert [one.place for one in near] == [place]
        else:
            assert found is None
            assert near == []


async def test_the_process_forgets_what_was_used_longest_ago(clock: Clock) -> None:
    store = MemoryStore(SPEC.model_copy(update={"max_entries": 3}), clock)
    places = [Place("s", f"n{number}") for number in range(4)]
    for place in places[:3]:
        await store.put(place, entry(place, vector=packed(unit(1, 0))))
    await store.get(places[0])
    await store.put(places[3], entry(places[3], vector=packed(unit(1, 0))))
    assert [await store.get(place) is not None for place in places] == [True, False, True, True]
    assert places[1] not in [one.place for one in await store.near("s", unit(1, 0), 0.5)]
    assert (store.evicted, len(store)) == (1, 3)


async def test_the_process_keeps_within_its_bytes(clock: Clock) -> None:
    store = MemoryStore(SPEC.model_copy(update={"max_mib": 0.1}), clock)
    for number in range(200):
        place = Place("s", f"n{number}")
        await store.put(place, entry(place, "x" * 1000))
    assert 0 < store.bytes <= 0.1 * 2**20
    assert store.evicted == 200 - len(store)
    for number in range(200):
        clock.now += 200
        await store.get(Place("s", f"n{number}"))
    assert (store.bytes, len(store)) == (0, 0)


async def test_replicas_find_each_others_answers(redis_prefix: str, clock: Clock) -> None:
    one, other = (RedisStore(REDIS, SPEC, redis_prefix, clock) for _ in range(2))
    for number in range(3):
        place = Place("s", f"n{number}")
        await (one, other)[number % 2].put(place, entry(place, vector=packed(unit(1, number / 100))))
        for store in (one, other):
            assert await store.get(place) == entry(place, vector=packed(unit(1, number / 100)))
            assert len(await store.near("s", unit(1, 0), 0.9)) == number + 1
    await one.close()
    await other.close()


@pytest.mark.parametrize("value", ["", "[]", '{"answer": "x"}', "\x80", "cos\nsystem\n(S'id'\ntR."])
async def test_what_is_no_answer_in_redis_is_a_miss(redis_prefix: str, value: str) -> None:
    store, place = RedisStore(REDIS, SPEC, redis_prefix), Place("s", "n")
    client = Redis.from_url(REDIS)
    await client.set(f"{redis_prefix}:answer:s:n", value)
    await client.xadd(f"{redis_prefix}:asked:s", {"asked": value})
    assert await store.get(place) is None
    assert await store.near("s", unit(1, 0), 0.0) == []
    assert store.faults == 2
    await client.aclose()
    await store.close()


async def test_an_answer_that_lies_in_anothers_place_is_a_miss(redis_prefix: str, clock: Clock) -> None:
    store, place = RedisStore(REDIS, SPEC, redis_prefix, clock), Place("s", "n")
    client = Redis.from_url(REDIS)
    await client.set(f"{redis_prefix}:answer:s:n", entry(Place("another", "n")).model_dump_json())
    assert await store.get(place) is None
    assert store.faults == 1
    await client.aclose()
    await store.close()


async def test_keys_show_neither_tenant_nor_question(redis_prefix: str, clock: Clock) -> None:
    store, place = RedisStore(REDIS, SPEC, redis_prefix, clock), Place("s" * 64, "n" * 64)
    await store.put(place, entry(place, created=clock.now, vector=packed(unit(1, 0))))
    client = Redis.from_url(REDIS, decode_responses=True)
    keys = {key async for key in client.scan_iter(f"{redis_prefix}:*")}
    assert keys == {f"{redis_prefix}:answer:{'s' * 64}:{'n' * 64}", f"{redis_prefix}:asked:{'s' * 64}"}
    assert all([0 < await client.pttl(key) <= 150_000 for key in keys])
    await client.aclose()
    await store.close()


async def test_redis_away_is_a_miss_that_is_counted(unused_tcp_port: int) -> None:
    store, place = RedisStore(f"redis://127.0.0.1:{unused_tcp_port}/0", SPEC), Place("s", "n")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get(place), lambda: store.put(place, entry(place)), lambda: store.near("s", unit(1, 0), 0.0),
    ]  # fmt: skip
    assert [await call() for call in calls] == [None, None, []]
    assert store.faults == 3
    await store.close()
