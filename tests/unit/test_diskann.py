"""DiskANN's process: started late, started again, ended with its starter; and what faults leave behind."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from indexes.types import Vectors
from indexes.vectors.diskann import DiskIndex
from indexes.vectors.diskann_client import DiskSearcher
from indexes.vectors.diskann_files import FILES
from indexes.vectors.port import Rows
from indexes.vectors.spec import VectorSpec
from indexes.vectors.stored import VECTORS
from infra.errors import IntegrityError, SetupError, TryAgainError
from infra.settings import ROOT
from infra.store import LocalStore
from tests.environment import needs_disk, only

ROWS, DIMENSION = 4_000, 32
SPEC = VectorSpec(kind="diskann", disk_degree=24, disk_complexity=40)


def topics(count: int, seed: int = 0) -> tuple[Vectors, Rows]:
    """Unit vectors, and which of 40 centres each lies around."""
    centres = np.random.default_rng(99).standard_normal((40, DIMENSION))
    random = np.random.default_rng(seed)
    topic = random.integers(0, 40, count)
    drawn = centres[topic] + 0.5 * random.standard_normal((count, DIMENSION))
    unit: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit, topic


ALL, TOPICS = topics(ROWS)
QUERY = topics(1, seed=1)[0][0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved index over ALL; tests must not change it."""
    place = tmp_path_factory.mktemp("diskann")
    index = DiskIndex(SPEC)
    index.build(ALL)
    index.save(place)
    return place


def rows_in(index: DiskIndex, query: Vectors = QUERY) -> list[int]:
    found: list[int] = index.search(query, 10)[0].tolist()
    return found


BEST = np.argsort(-(ALL @ QUERY))[:10].tolist()


@needs_disk
def test_the_process_starts_with_the_first_search_that_needs_it(folder: Path) -> None:
    index = DiskIndex.load(folder, SPEC)
    few = np.arange(ROWS) < 1_000
    assert (index.search(QUERY, 5, few)[0] < 1_000).all()
    assert index.process is None, "a thousand rows are scanned"
    assert rows_in(index) == BEST
    assert index.process is not None
    process = psutil.Process(index.process)
    del index
    with pytest.raises(psutil.NoSuchProcess):
        process.status()


@needs_disk
def test_a_mask_that_shuts_the_topic_of_the_question_is_searched_to_its_end(folder: Path) -> None:
    index = DiskIndex.load(folder, SPEC)
    for row in range(0, ROWS, 400):
        allowed = np.not_equal(TOPICS, TOPICS[row])
        best = np.argsort(-np.where(allowed, ALL @ ALL[row], -2))[:10]
        assert index.search(ALL[row], 10, allowed)[0].tolist() == best.tolist()


@needs_disk
def test_a_process_that_was_killed_is_started_again(folder: Path) -> None:
    index = DiskIndex.load(folder, SPEC)
    rows_in(index)
    first = index.process
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert rows_in(index) == BEST
    assert index.process not in {None, first}


@needs_disk
def test_a_process_that_is_killed_in_the_middle_of_a_search(folder: Path) -> None:
    index = DiskIndex.load(folder, SPEC)
    rows_in(index)
    process = index.process
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    found: list[list[int]] = []
    asking = threading.Thread(target=lambda: found.append(rows_in(index)))
    asking.start()
    with open(f"/proc/{process}/fd/0", "rb", buffering=0) as asked:  # noqa: PTH123 - a pipe, not a file
        waiting = bytearray(4)
        while not int.from_bytes(waiting, "little"):  # until the question lies in the pipe
            fcntl.ioctl(asked, termios.FIONREAD, waiting)
    os.kill(process, signal.SIGKILL)
    asking.join()
    assert found == [BEST]


@needs_disk
def test_no_answer_in_time_is_said_and_the_next_search_works(folder: Path) -> None:
    searcher = DiskSearcher(folder, DIMENSION)
    assert searcher.search(QUERY, 10, 128).tolist() == BEST
    stopped = searcher.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    searcher.seconds = 0.1
    with pytest.raises(TryAgainError, match=r"did not search within 0\.1 s"):
        searcher.search(QUERY, 10, 128)
    assert not psutil.pid_exists(stopped)
    searcher.seconds = 30
    assert searcher.search(QUERY, 10, 128).tolist() == BEST


@needs_disk
def test_the_process_ends_when_its_starter_is_killed(folder: Path) -> None:
    script = (
        "import os, signal, sys; import numpy as np; from pathlib import Path\n"
        "from indexes.vectors.diskann_client import DiskSearcher\n"
        f"searcher = DiskSearcher(Path({str(folder)!r}), {DIMENSION})\n"
        f"searcher.search(np.ones({DIMENSION}, np.float32), 5, 20)\n"
        "print(searcher.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    try:
        psutil.Process(int(done.stdout)).wait(30)
    except psutil.NoSuchProcess:
        return


@needs_disk
@pytest.mark.parametrize("name", [*FILES, VECTORS])
def test_one_flipped_byte_is_refused_by_the_store(folder: Path, name: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ref = store.put("index", folder)
    file = Path(ref.uri) / "files" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="was changed"):
        store.open(ref)


@needs_disk
def test_a_writer_that_is_killed_leaves_the_old_index(folder: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old = store.put("index", folder)
    script = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from indexes.vectors.diskann import DiskIndex; from infra.store import LocalStore\n"
        "from tests.unit.test_diskann import SPEC\n"
        f"index = DiskIndex.load(Path({str(folder)!r}), SPEC)\n"
        "index.remove(np.arange(5))\n"
        f"with LocalStore(Path({str(tmp_path)!r})).writing('index') as draft:\n"
        "    index.save(draft.folder); print('written', flush=True); sys.stdin.read()\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    writer.kill()
    writer.communicate()
    assert [entry.name for entry in (tmp_path / "index").iterdir()] == [old.digest]
    assert rows_in(DiskIndex.load(store.open(old), SPEC)) == BEST


def test_without_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with only(monkeypatch, DISK_PYTHON=tmp_path / "python"):
        with pytest.raises(SetupError, match="run make setup"):
            DiskIndex(SPEC).build(ALL)
        with pytest.raises(SetupError, match="run make setup"):
            DiskIndex.load(tmp_path, SPEC)


def test_a_process_that_ends_at_once_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2; exit 3\n", "utf-8")
    broken.chmod(0o755)
    with only(monkeypatch, DISK_PYTHON=broken):
        with pytest.raises(SetupError, match="ended while it built an index: exit code 3: no such library"):
            DiskIndex(SPEC).build(ALL)
        with pytest.raises(SetupError, match="ended twice in one search: exit code 3: no such library"):
            DiskSearcher(tmp_path, DIMENSION).search(QUERY, 5, 20)
