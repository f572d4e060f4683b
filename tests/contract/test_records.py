"""Contract of the records on SQLite and PostgreSQL: pointers, rollouts, traces, ratings, keys, many writers."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from infra.database import open_database
from infra.errors import InputError, PolicyError, SetupError
from infra.records import Records, Trace, key_digest, rollout_id

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite'}"
    address: str = request.getfixturevalue("postgresql_url")
    engine = open_database(address)
    with engine.begin() as connection:
        tables = "pointers, pointer_history, releases, placements, rollouts, traces, feedback, api_keys, cases_added"
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    engine.dispose()
    return address


@pytest.fixture
def records(url: str) -> Iterator[Records]:
    opened = Records.open(url)
    yield opened
    opened.close()


def trace(number: int, release: str = A, arm: str = "production", **more: object) -> Trace:
    return Trace(trace_id=f"{number:032x}", created=1000.0 + number, release=release, arm=arm, **more)  # type: ignore[arg-type]  # keyword bundle


def test_schema_of_the_migrations_is_the_schema_of_the_code(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from infra.tables import Base

    engine = open_database(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_sqlite_is_in_wal_mode(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "records.sqlite"
    Records.open(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("address", ["mysql://x/y", "sqlite://", "not an address", "sqlite:///:memory:"])
def test_other_databases_are_refused(address: str) -> None:
    with pytest.raises(PolicyError, match="SLUICE_DATABASE"):
        Records.open(address)


def test_folder_that_cannot_be_made_is_a_setup_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="SLUICE_HOME"):
        Records.open(f"sqlite:///{tmp_path / 'file' / 'records.sqlite'}")


def test_move_is_compare_and_set_with_history(records: Records) -> None:
    assert not records.move("production", A, expected=B)
    assert records.pointer("production") is None
    assert records.move("production", A, expected=None, reason="first")
    assert not records.move("production", B, expected=None)
    assert records.move("production", B, expected=A, reason="second")
    assert records.pointers() == {"production": B}
    assert [(move.old, move.new, move.reason) for move in records.history("production")] == [
        (None, A, "first"),
        (A, B, "second"),
    ]
    assert records.move("production", None, expected=B)
    assert records.pointers() == {}
    assert records.move("production", A, expected=None)
    with pytest.raises(InputError, match="alias"):
        records.move("live", A, expected=None)


def test_of_many_threads_that_move_one_alias_one_wins_each_round(records: Records) -> None:
    records.move("candidate", "0", expected=None)
    for round_number in range(5):
        start = threading.Barrier(6)
        won: list[str] = []

        def claim(name: str, seen: str, start: threading.Barrier, won: list[str]) -> None:
            start.wait()
            if records.move("candidate", name, expected=seen):
                won.append(name)

        seen = records.pointer("candidate")
        assert seen is not None
        names = [f"{round_number}-{worker}" for worker in range(6)]
        threads = [threading.Thread(target=claim, args=(name, seen, start, won)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert records.pointer("candidate") == won[0]
    assert len(records.history("candidate")) == 6


def test_promote_sets_both_aliases_or_none_and_rollback_swaps(records: Records) -> None:
    with pytest.raises(InputError, match="no previous"):
        records.rollback()
    assert records.promote(A, None)
    assert records.pointers() == {"production": A}
    assert not records.promote(B, C)
    assert records.pointers() == {"production": A}
    assert records.promote(B, A, reason="better")
    assert records.pointers() == {"production": B, "previous": A}
    assert records.promote(B, B), "again: done already"
    assert records.pointers() == {"production": B, "previous": A}
    assert records.rollback("worse after all") == A
    assert records.pointers() == {"production": A, "previous": B}
    assert records.promote(C, A)
    assert records.pointers() == {"production": C, "previous": A}


def test_releases_and_placements(records: Records) -> None:
    records.add_release(A, {"model": "m"})
    first = records.release(A)
    records.add_release(A, {"model": "other"}, gate_report=C, state="CANDIDATE")
    again = records.release(A)
    assert first is not None
    assert again is not None
    assert (again.release, again.created) == ({"model": "m"}, first.created)
    assert (again.gate_report, again.state) == (C, "CANDIDATE")
    assert records.release(B) is None
    records.place(A, "http://127.0.0.1:8810/v1", "starter")
    records.place(A, "http://127.0.0.1:8811/v1", "starter")
    assert {name: row.base_url for name, row in records.placements().items()} == {A: "http://127.0.0.1:8811/v1"}
    assert records.placements()[A].pools == []
    pools = [{"pool": "short", "base_url": "http://127.0.0.1:8812", "model": "starter", "max_prompt_tokens": 200}]
    records.place(A, "http://127.0.0.1:8811/v1", "starter", pools)
    assert records.placements()[A].pools == pools
    records.unplace(A)
    assert records.placements() == {}


def test_one_rollout_runs_and_a_pair_is_never_started_twice(records: Records) -> None:
    started = records.start_rollout(A, B, C, share=0.05)
    assert started.id == rollout_id(A, B, C)
    assert records.advance_rollout(started.id, share=0.25, step=2)
    assert records.start_rollout(A, B, C, share=0.05).share == 0.25
    with pytest.raises(InputError, match="is running"):
        records.start_rollout(A, C, C, share=0.05)
    assert records.finish_rollout(started.id, "ROLLED_BACK", "errors rose")
    assert not records.finish_rollout(started.id, "PROMOTED", "too late")
    assert not records.advance_rollout(started.id, share=0.5, step=3)
    assert records.running_rollout() is None
    assert records.start_rollout(A, B, C, share=0.05).state == "ROLLED_BACK"
    assert records.start_rollout(A, C, C, share=0.05).state == "RUNNING"
    with pytest.raises(InputError, match="share"):
        records.start_rollout(B, C, C, share=1.5)


def test_a_request_key_is_answered_once_a_release(records: Records) -> None:
    records.add_traces([trace(1, request_key="r", answer="one"), trace(2, request_key="r", answer="two")])
    records.add_traces([trace(3, B, request_key="r", answer="other"), trace(4), trace(5), trace(1, answer="again")])
    assert [row.trace_id for row in records.traces()] == [f"{number:032x}" for number in (1, 3, 4, 5)]
    stored = records.answered("r", A)
    assert stored is not None
    assert stored.answer == "one"
    assert records.answered("r", C) is None
    assert [row.answer for row in records.traces(release=B)] == ["other"]


def test_outcomes_are_both_arms_in_order_with_the_last_rating(records: Records) -> None:
    rows = [
        trace(1, A, "baseline", rollout="x", request_key="q1", latency_ms=5.0),
        trace(2, B, "canary", rollout="x", request_key="q1", error="engine", unsafe=True, refused=True),
        trace(3, A, "production", rollout="x"),
        trace(4, A, "baseline", rollout="other"),
        trace(5, A, "baseline", rollout="x", request_key="q2"),
    ]
    records.add_traces(rows)
    records.add_feedback(f"{1:032x}", -1)
    records.add_feedback(f"{1:032x}", 1, correction="14 days", simulated=True)
    found = records.outcomes("x")
    assert [(row.request_key, row.arm, row.rating) for row in found] == [
        ("q1", "baseline", 1),
        ("q1", "canary", None),
        ("q2", "baseline", None),
    ]
    assert [(row.error, row.unsafe, row.refused) for row in found[:2]] == [(False, False, False), (True, True, True)]
    assert [row.request_key for row in records.outcomes("x", after=found[1].seq)] == ["q2"]
    assert [row.simulated for row in records.feedback(f"{1:032x}")] == [False, True]
    with pytest.raises(InputError, match="no trace"):
        records.add_feedback("f" * 32, 1)
    with pytest.raises(InputError, match="rating"):
        records.add_feedback(f"{1:032x}", 0)


def test_ratings_come_with_their_traces_in_pages(records: Records) -> None:
    records.add_traces([trace(1, answer="one", passages=[{"number": 1, "text": "t"}]), trace(2), trace(3)])
    records.add_feedback(f"{2:032x}", 1, simulated=True)
    records.add_feedback(f"{1:032x}", -1, correction="14 days")
    records.add_feedback(f"{1:032x}", 1)
    assert [(row.trace.answer, row.feedback.rating, row.feedback.correction) for row in records.rated()] == [
        ("one", -1, "14 days"),
        ("one", 1, ""),
    ]
    assert records.rated()[0].trace.passages == [{"number": 1, "text": "t"}]
    first = records.rated(simulated=True, limit=1)
    assert [row.trace.trace_id[-1] for row in first] == ["2"]
    rest = records.rated(simulated=True, after=first[0].feedback.id)
    assert [row.trace.trace_id[-1] for row in rest] == ["1", "1"]
    assert records.rated(after=rest[-1].feedback.id) == []


def test_export_marks_and_retention(records: Records) -> None:
    kept = records.start_rollout(A, B, C, share=0.1)
    records.add_traces([trace(number) for number in range(1, 8)])
    records.add_traces([trace(8, A, "baseline", rollout=kept.id)])
    records.add_feedback(f"{2:032x}", 1)
    records.mark_exported([f"{number:032x}" for number in (1, 2, 3)])
    assert [row.trace_id[-1] for row in records.unexported(2)] == ["4", "5"]
    assert records.purge(before=1005.0) == 4
    assert [row.trace_id[-1] for row in records.traces()] == ["5", "6", "7", "8"]
    assert records.feedback(f"{2:032x}") == []
    assert records.purge(before=time.time()) == 3
    assert [row.arm for row in records.traces()] == ["baseline"], "outcomes of the running canary stay"


def test_keys_are_kept_as_digests(records: Records) -> None:
    records.add_key("secret", "cli", "operator", {"staff", "public"})
    row = records.keys()[key_digest("secret")]
    assert (row.name, row.role, row.access) == ("cli", "operator", ["public", "staff"])
    records.drop_key(row.digest)
    assert records.keys() == {}
    with pytest.raises(InputError, match="role"):
        records.add_key("secret", "cli", "root", set())


def test_a_case_is_added_once(records: Records) -> None:
    assert records.add_case("c1", f"{1:032x}", {"question": "?"}, reason="thumb down")
    assert not records.add_case("c1", f"{2:032x}", {"question": "!"})
    assert [row.case for row in records.cases_added()] == [{"question": "?"}]


WRITER = """
import sys
from infra.records import Records, Trace
url, worker = sys.argv[1], int(sys.argv[2])
records = Records.open(url)
for number in range(40):
    name = f"{worker:016x}{number:016x}"
    trace = Trace(trace_id=name, created=1.0, release="a", arm="production", request_key=f"k{number}-{worker}")
    records.add_traces([trace])
    records.add_feedback(name, 1)
"""


def test_several_processes_open_migrate_and_write_at_once(url: str) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", WRITER, url]
    workers = [subprocess.Popen([*command, str(n)], cwd=root, stderr=subprocess.PIPE, text=True) for n in range(3)]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said
    records = Records.open(url)
    rows = records.traces()
    assert len({row.trace_id for row in rows}) == 120
    assert all(len(records.feedback(row.trace_id)) == 1 for row in rows[:5])
    records.close()
