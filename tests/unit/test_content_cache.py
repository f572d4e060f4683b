"""What is kept is made once; what is damaged, unused or interrupted costs time and never changes a result."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexes.cache import ContentCache, NoCache

ITEMS = [f"item {number}" for number in range(200)]


class Maker:
    """Makes the result of an item and remembers for which it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, item: str) -> bytes | None:
        self.asked.append(item)
        return None if item.endswith("bad") else item.upper().encode()


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "state" / "kept.sqlite", spare=20)


def made(cache: ContentCache, items: list[str]) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Items with their results, and those that had to be made."""
    maker = Maker()
    found = [(item, value) for item, value, _ in cache.once(items, lambda item: f"key {item}", maker)]
    return found, maker.asked


def test_only_what_is_new_is_made_and_the_order_stays(cache: ContentCache) -> None:
    wanted = [(item, item.upper().encode()) for item in ITEMS]
    assert made(cache, ITEMS) == (wanted, ITEMS)
    assert made(cache, ITEMS) == (wanted, [])
    other = [*ITEMS[5:120], "new", *reversed(ITEMS[120:])]
    assert made(cache, other) == ([(item, item.upper().encode()) for item in other], ["new"])
    assert made(NoCache(), ITEMS) == (wanted, ITEMS)


def test_items_with_one_key_are_made_once(cache: ContentCache) -> None:
    maker = Maker()
    found = list(cache.once(["a", "b", "a"], lambda item: item, maker))
    assert [(once.item, once.value, once.is_new) for once in found] == [
        ("a", b"A", True),
        ("b", b"B", True),
        ("a", b"A", True),
    ]
    assert maker.asked == ["a", "b"]
    assert [once.is_new for once in cache.once(["a", "b"], lambda item: item, maker)] == [False, False]


def test_what_came_to_nothing_is_passed_over_and_tried_again(cache: ContentCache) -> None:
    for _ in range(2):
        found, asked = made(cache, ["a", "bad", "b"])
        assert [item for item, _ in found] == ["a", "b"]
        assert "bad" in asked
    assert asked == ["bad"]


def test_damaged_and_swapped_rows_are_made_again(cache: ContentCache) -> None:
    sound, _ = made(cache, ITEMS)
    with sqlite3.connect(cache.file) as connection:
        connection.execute("UPDATE kept SET value = x'00' WHERE key = 'key item 7'")
        rows = connection.execute("SELECT value, checksum FROM kept WHERE key = 'key item 8'").fetchall()
        connection.execute("UPDATE kept SET value = ?, checksum = ? WHERE key = 'key item 9'", rows[0])
    connection.close()
    assert made(cache, ITEMS) == (sound, ["item 7", "item 9"])
    assert made(cache, ITEMS) == (sound, [])


def test_a_file_that_is_no_database_is_replaced(cache: ContentCache) -> None:
    cache.file.parent.mkdir(parents=True)
    cache.file.write_bytes(b"this is no database" * 100)
    sound, asked = made(cache, ITEMS)
    assert asked == ITEMS
    assert made(cache, ITEMS) == (sound, [])


def test_a_killed_run_goes_on_where_it_was(cache: ContentCache) -> None:
    def until_killed() -> Iterator[str]:
        yield from ITEMS[:150]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(cache.once(until_killed(), lambda item: f"key {item}", Maker()))
    assert 0 < len(made(cache, ITEMS)[1]) < 100


def test_what_was_not_used_stays_until_there_is_more_of_it_than_of_what_was(cache: ContentCache) -> None:
    made(cache, ITEMS[:100])
    assert len(made(cache, ITEMS[60:100])[1]) == 0
    assert len(made(cache, ITEMS[:100])[1]) == 60, "60 unused rows beside 40 were forgotten"
    made(cache, [*ITEMS[:90], *ITEMS[100:110]])
    assert len(made(cache, ITEMS[:100])[1]) == 0, "10 unused rows beside 100 were kept"


def test_a_few_unused_rows_are_never_too_many(cache: ContentCache) -> None:
    made(cache, ITEMS[:20])
    made(cache, ["other"])
    assert made(cache, ITEMS[:20])[1] == []
    made(cache, ITEMS[20:30])
    made(cache, ["other"])
    assert made(cache, ITEMS[:20])[1] == ITEMS[:20], "30 are more than the 20 that are spared"
