"""The spool: lines in order, bounded, whole after a kill; and the trace writer over it, with a database that goes."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from infra.errors import InputError, SetupError, TryAgainError
from infra.records import Records, Trace, new_values
from infra.settings import ROOT
from infra.spool import Spool
from models.serving.writer import TraceWriter


def drain(spool: Spool, most: int = 3) -> list[bytes]:
    found: list[bytes] = []
    while lines := spool.peek(most):
        found += lines
        spool.take(lines)
    return found


@settings(deadline=None)  # it waits for the disk
@given(batches=some.lists(some.lists(some.binary(max_size=9).filter(lambda line: b"\n" not in line))))
def test_lines_come_in_order_over_segments_and_restarts(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    wanted = [line for batch in batches for line in batch]
    for batch in batches:
        spool = Spool(folder, segment_bytes=16)
        assert spool.append(batch) == len(batch)
        spool.close()
    spool = Spool(folder, segment_bytes=16)
    assert spool.waiting == len(wanted)
    assert drain(spool) == wanted
    assert spool.waiting == 0
    spool.close()
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_what_was_peeked_but_not_taken_comes_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1", b"2", b"3"])
    assert spool.peek(2) == spool.peek(2) == [b"1", b"2"]
    spool.take([b"1"])
    assert spool.peek(9) == [b"2", b"3"]
    spool.close()
    assert drain(Spool(tmp_path)) == [b"1", b"2", b"3"]  # a segment is taken whole or comes again


def test_a_bound_takes_the_first_lines_and_frees_with_the_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=12, segment_bytes=6)
    assert spool.append([b"12345", b"12345", b"12345"]) == 2
    assert spool.append([b"1"]) == 0
    assert len(drain(spool)) == 2
    assert spool.append([b"12345"]) == 1


def test_a_line_that_was_never_whole_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "000000000007.jsonl").write_bytes(b"1\n2\nhal")
    spool = Spool(tmp_path)
    spool.append([b"3"])
    assert drain(spool) == [b"1", b"2", b"3"]
    assert "never whole" in caplog.text


def test_a_spool_has_one_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SetupError, match="another process has this spool"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_a_full_disk_is_said_and_leaves_no_half_line() -> None:
    with pytest.raises(SetupError, match="no spool can be kept here"):
        Spool(Path("/proc/nowhere"))


class Database(Records):
    """Records that can be away, and that do not take one of the traces."""

    away = True
    poison = ""

    def add_trace_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.away:
            raise TryAgainError("records database: away")
        if any(row["trace_id"] == self.poison for row in rows):
            raise InputError("the records do not take this value")
        super().add_trace_rows(rows)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    opened = Database.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    assert isinstance(opened, Database)
    return opened


def trace(number: int, question: str = "What is due?") -> dict[str, Any]:
    row = Trace(trace_id=f"{number:032x}", created=1.0, release="a" * 64, arm="production", question=question)
    return new_values(row)


def ids(records: Records) -> list[int]:
    return [int(row.trace_id, 16) for row in records.traces(limit=10_000)]


def test_a_database_that_is_away_loses_no_trace_and_doubles_none(tmp_path: Path, database: Database) -> None:
    lost: list[int] = []
    writer = TraceWriter(database, lambda text: text, 5000, Spool(tmp_path / "spool"), lost.append)
    for number in range(1, 1001):
        assert writer.submit(trace(number))
    waits = writer.stored(f"{1000:032x}")
    assert waits is not None
    with pytest.raises(TryAgainError, match="away"):
        waits.result(30)
    assert 0 < writer.backlog <= 1001  # one batch may be counted on both sides for a moment
    assert ids(database) == []
    database.away = False
    assert writer.submit(trace(1001))
    last = writer.stored(f"{1001:032x}")
    assert last is None or last.result(30) is None
    writer.close()
    assert ids(database) == list(range(1, 1002))
    assert lost == []


def test_traces_of_a_stopped_gateway_are_stored_by_the_next(tmp_path: Path, database: Database) -> None:
    writer = TraceWriter(database, lambda text: text, 100, Spool(tmp_path / "spool"))
    for number in (1, 2):
        writer.submit(trace(number))
    writer.close()
    assert ids(database) == []
    database.away = False
    again = TraceWriter(database, lambda text: text, 100, Spool(tmp_path / "spool"))
    again.submit(trace(3))
    again.close()
    assert ids(database) == [1, 2, 3]


def test_what_the_database_refuses_is_counted_and_holds_nothing_up(tmp_path: Path, database: Database) -> None:
    lost: list[int] = []
    database.away, database.poison = False, f"{2:032x}"
    writer = TraceWriter(database, lambda text: text, 100, Spool(tmp_path / "spool"), lost.append)
    for number in (1, 2, 3):
        writer.submit(trace(number))
    writer.close()
    assert ids(database) == [1, 3]
    assert sum(lost) == 1


def test_a_full_spool_refuses_and_counts(tmp_path: Path, database: Database) -> None:
    lost: list[int] = []
    writer = TraceWriter(database, lambda text: text, 100, Spool(tmp_path / "spool", most_bytes=2000), lost.append)
    for number in range(20):
        writer.submit(trace(number))
    writer.close()
    kept = Spool(tmp_path / "spool")
    assert 0 < kept.waiting < 20
    assert kept.waiting + sum(lost) == 20
    kept.close()


def test_texts_on_disk_are_redacted_and_fit_every_database(tmp_path: Path, database: Database) -> None:
    writer = TraceWriter(database, lambda text: text.replace("Anna", "<NAME>"), 100, Spool(tmp_path / "spool"))
    writer.submit(trace(1, "Anna\0 said \ud83d"))
    writer.close()
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("*.jsonl"))
    assert b"<NAME> said ?" in on_disk
    assert b"Anna" not in on_disk


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_spool import Database, Spool, TraceWriter, trace
home = Path(sys.argv[1])
records = Database.open(f"sqlite:///{home / 'records.sqlite'}")
writer = TraceWriter(records, str, 5000, Spool(home / "spool"))
for number in range(1, 501):
    writer.submit(trace(number))
try:
    writer.stored(f"{500:032x}").result(30)
except Exception as error:
    print(error)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_gateway_leaves_its_traces_to_the_next(tmp_path: Path, database: Database) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert "away" in child.stdout or not child.stdout
    assert ids(database) == []
    database.away = False
    writer = TraceWriter(database, str, 5000, Spool(tmp_path / "spool"))
    writer.submit(trace(501))
    writer.close()
    assert ids(database) == list(range(1, 502))
