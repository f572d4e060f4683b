"""The process manager with real small servers: start, reuse, replace, taken port, crash, orphan, stop."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.errors import SetupError
from infra.ports import answers
from infra.process_group import group_members
from infra.processes import ProcessManager, ProcessSpec, Running

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
FAMILY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n" + SERVER


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server(port: int, code: str = SERVER, **changes: object) -> ProcessSpec:
    fields: dict[str, object] = {
        "name": "web",
        "argv": (sys.executable, "-c", code, str(port)),
        "port": port,
        "ready_url": f"http://127.0.0.1:{port}/",
        "ready_timeout_s": 20,
        "stop_grace_s": 5,
        "port_setting": "SLUICE_WEB_PORT",
    }
    return ProcessSpec.model_validate(fields | changes)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ProcessManager]:
    manager = ProcessManager(tmp_path)
    yield manager
    manager.stop_all()


def test_start_reuse_and_stop(manager: ProcessManager) -> None:
    spec = server(free_port())
    first = manager.start(spec)
    assert answers(spec.ready_url)
    assert manager.start(spec) == first
    [status] = manager.status()
    assert (status.alive, status.healthy, status.pid) == (True, True, first.pid)
    assert status.memory_mb > 1
    assert manager.stop("web")
    assert not answers(spec.ready_url)
    assert not psutil.pid_exists(first.pid)
    assert manager.status() == []
    assert not manager.stop("web")


def test_another_spec_replaces_the_process(manager: ProcessManager) -> None:
    port = free_port()
    first = manager.start(server(port))
    second = manager.start(server(port, version="2"))
    assert second.pid != first.pid
    assert not psutil.pid_exists(first.pid)


def test_crashed_process_is_started_again(manager: ProcessManager) -> None:
    spec = server(free_port())
    first = manager.start(spec)
    os.kill(first.pid, signal.SIGKILL)
    second = manager.start(spec)
    assert second.pid != first.pid
    assert answers(spec.ready_url)


def test_taken_port_names_port_owner_and_setting(manager: ProcessManager) -> None:
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        with pytest.raises(SetupError) as caught:
            manager.start(server(port))
    message = str(caught.value)
    assert str(port) in message
    assert f"pid {os.getpid()}" in message
    assert "SLUICE_WEB_PORT" in message
    assert manager.status() == []


def test_exit_while_starting_shows_the_end_of_the_log(manager: ProcessManager) -> None:
    code = "print(*range(40), sep='\\n'); raise SystemExit('no model weights')"
    with pytest.raises(SetupError) as caught:
        manager.start(server(free_port(), code))
    message = str(caught.value)
    assert "exited with code 1" in message
    assert message.endswith("no model weights")
    assert "\n39\n" in message
    assert "\n3\n" not in message
    assert manager.status() == []


def test_silent_server_times_out_and_is_not_left_running(manager: ProcessManager) -> None:
    with pytest.raises(SetupError, match=r"not ready after 0\.5 s"):
        manager.start(server(free_port(), "import time; time.sleep(60)", ready_timeout_s=0.5))
    assert manager.status() == []


def test_missing_program_is_a_setup_error(manager: ProcessManager) -> None:
    with pytest.raises(SetupError, match="cannot run"):
        manager.start(server(free_port(), argv=("/nowhere/python",)))


def test_stop_kills_what_ignores_sigterm(manager: ProcessManager) -> None:
    running = manager.start(server(free_port(), STUBBORN, stop_grace_s=0.5))
    begin = time.monotonic()
    manager.stop("web")
    assert 0.5 <= time.monotonic() - begin < 5
    assert not psutil.pid_exists(running.pid)


def test_stop_reaches_children_whose_parent_was_killed(manager: ProcessManager) -> None:
    running = manager.start(server(free_port(), FAMILY))
    assert len(group_members(running.pid, running.started)) == 2
    os.kill(running.pid, signal.SIGKILL)
    assert manager.stop("web")
    assert group_members(running.pid, running.started) == []


def test_process_outlives_a_killed_starter_and_is_found_again(manager: ProcessManager, tmp_path: Path) -> None:
    spec = server(free_port())
    starter = (
        "import os, signal, sys; from pathlib import Path; from infra.processes import ProcessManager, ProcessSpec\n"
        "ProcessManager(Path(sys.argv[1])).start(ProcessSpec.model_validate_json(sys.argv[2]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", starter, str(tmp_path), spec.model_dump_json()], check=False)
    assert done.returncode == -signal.SIGKILL
    orphan = manager.find("web")
    assert orphan is not None
    assert manager.start(spec) == orphan
    assert manager.stop("web")
    assert not answers(spec.ready_url)


def test_reused_pid_is_never_signalled(manager: ProcessManager) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        state = Running(
            name="web", pid=stranger.pid, started=time.time() - 3600, digest="d", port=1,
            ready_url="http://127.0.0.1:1/", stop_grace_s=1, log="",
        )  # fmt: skip
        manager.run.mkdir(parents=True)
        (manager.run / "web.json").write_text(state.model_dump_json())
        assert manager.status()[0].alive is False
        assert manager.stop("web")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_two_starters_at_once_make_one_process(tmp_path: Path) -> None:
    spec = server(free_port())
    started: list[Running] = []
    threads = [threading.Thread(target=lambda: started.append(ProcessManager(tmp_path).start(spec))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({running.pid for running in started}) == 1
    assert ProcessManager(tmp_path).stop_all() == ["web"]


def test_corrupt_state_says_what_to_do(manager: ProcessManager) -> None:
    manager.run.mkdir(parents=True)
    (manager.run / "web.json").write_text("{")
    with pytest.raises(SetupError, match="delete the file"):
        manager.status()
    (manager.run / "web.json").unlink()
