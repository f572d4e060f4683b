"""Long-lived local servers: started detached, found again by state files, health-checked, stopped as a process group.

State is on disk (`<home>/run/<name>.json`), so that any later process finds, reuses or stops what an earlier one
started, also when that one was killed.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.errors import SetupError
from infra.ports import answers, port_is_free, port_owner
from infra.process_group import group_members, live_process, resident_bytes, signal_group, stop_group
from infra.settings import ROOT, Spec
from infra.store import value_digest, write_atomic

LOG_LINES = 15
POLL_S = 0.1
PORT_RELEASE_S = 2.0
"""Seconds in which the kernel closes the sockets of a process that has ended: its last threads may die after it."""


class ProcessSpec(Spec):
    """One server process. Two specs with the same `digest` are the same server."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Names the state file and the log."""
    argv: tuple[str, ...] = Field(min_length=1)
    """Program and arguments; no shell."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables set on top of the starter's environment; no secrets (other users may read them)."""
    port: int = Field(ge=1, le=65535)
    """Port it listens on."""
    ready_url: str
    """Answers 200 once the server can work."""
    ready_timeout_s: float = Field(60, gt=0)
    """Seconds it may take to come up."""
    stop_grace_s: float = Field(10, gt=0)
    """Seconds between SIGTERM and SIGKILL."""
    port_setting: str = ""
    """The setting that moves the port, named in the message when the port is taken."""
    version: str = ""
    """Version of code or configuration that the arguments do not show; a change replaces the process."""

    @property
    def digest(self) -> str:
        """What makes it this server: arguments, variables, address and version."""
        return value_digest([self.argv, self.env, self.port, self.ready_url, self.version])


class Running(BaseModel):
    """A started process as its state file keeps it. Times in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    """Also the id of its process group and session."""
    started: float
    """Start time of the pid: a pid with another start time is somebody else's."""
    digest: str
    port: int
    ready_url: str
    stop_grace_s: float
    log: str


class ProcessStatus(BaseModel):
    """What `status` found: `alive` is the process, `healthy` its ready address."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    port: int
    alive: bool
    healthy: bool
    uptime_s: float
    memory_mb: float
    log: str


def log_tail(path: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log file, undecodable bytes replaced; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64 * 1024))
        return "\n".join(stream.read().decode("utf-8", "replace").splitlines()[-lines:])


class ProcessManager:
    """Starts and stops servers of one state folder. Safe to use from several processes at once."""

    def __init__(self, home: Path) -> None:
        self.run = home / "run"
        self.logs = home / "logs"
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, spec: ProcessSpec) -> Running:
        """A healthy process of this spec: the running one when it is the same, otherwise a new one.

        Raises: SetupError when the port belongs to someone else, or the server exits or is not ready in time; the
        message holds the last log lines, and nothing is left running.
        """
        with self._lock(spec.name):
            old = self.find(spec.name)
            if old is not None:
                if old.digest == spec.digest and self._becomes_ready(old, spec):
                    return old
                self._end(old)
            self._claim_port(spec)
            running = self._launch(spec)
            try:
                self._wait_ready(running, spec)
            except BaseException:
                self._end(running)
                raise
            return running

    def stop(self, name: str) -> bool:
        """Stop a process and its group; whether there was one."""
        with self._lock(name):
            running = self.find(name)
            if running is None:
                return False
            self._end(running)
            return True

    def stop_all(self) -> list[str]:
        """Stop everything of this state folder; the names that were stopped."""
        names = self._names()
        with ExitStack() as locks:
            for name in names:
                locks.enter_context(self._lock(name))
            found = [running for name in names if (running := self.find(name)) is not None]
            for running in found:
                signal_group(running.pid, running.started, signal.SIGTERM)
            for running in found:
                self._end(running)
        return [running.name for running in found]

    def status(self) -> list[ProcessStatus]:
        """Every process that was started and not stopped, by name; a crashed one shows as not alive."""
        return [self._status(running) for name in self._names() if (running := self.find(name)) is not None]

    def find(self, name: str) -> Running | None:
        """The state of `name` as last written, whether it lives or not.

        Raises: SetupError for a state file that is not one.
        """
        path = self._state(name)
        if not path.is_file():
            return None
        try:
            return Running.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise SetupError(f"{path}: not a process state ({error.error_count()} errors); delete the file") from error

    def alive(self, name: str) -> Running | None:
        """The state of `name` when its process lives."""
        self._reap()
        running = self.find(name)
        return running if running is not None and live_process(running.pid, running.started) is not None else None

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self.run.glob("*.json"))

    def _state(self, name: str) -> Path:
        return self.run / f"{name}.json"

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One starter or stopper of `name` at a time; the kernel frees the lock of a killed holder."""
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / f"{name}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _reap(self) -> None:
        """Collect exit codes of own children, so that none stays a zombie."""
        self._children = {pid: child for pid, child in self._children.items() if child.poll() is None}

    def _status(self, running: Running) -> ProcessStatus:
        self._reap()
        process = live_process(running.pid, running.started)
        members = group_members(running.pid, running.started) if process else []
        return ProcessStatus(
            name=running.name,
            pid=running.pid,
            port=running.port,
            alive=process is not None,
            healthy=process is not None and answers(running.ready_url),
            uptime_s=max(0.0, time.time() - running.started) if process else 0.0,
            memory_mb=round(sum(resident_bytes(member) for member in members) / 2**20, 1),
            log=running.log,
        )

    def _end(self, running: Running) -> None:
        if not stop_group(running.pid, running.started, running.stop_grace_s):
            raise SetupError(f"{running.name}: process group {running.pid} survives SIGKILL; see ps and dmesg")
        self._reap()
        self._state(running.name).unlink(missing_ok=True)

    def _becomes_ready(self, running: Running, spec: ProcessSpec) -> bool:
        """Whether a found process answers: at once, or within what is left of its start when it is still coming up."""
        deadline = max(running.started + spec.ready_timeout_s, time.time() + 3)
        while live_process(running.pid, running.started) is not None:
            if answers(running.ready_url):
                return True
            if time.time() > deadline:
                return False
            time.sleep(POLL_S)
        return False

    def _claim_port(self, spec: ProcessSpec) -> None:
        """Raise SetupError when the port stays taken; a process that has just ended may hold it for a moment longer."""
        host = urlsplit(spec.ready_url).hostname or "127.0.0.1"
        deadline = time.monotonic() + PORT_RELEASE_S
        while not port_is_free(host, spec.port):
            if time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            change = f"or set {spec.port_setting} to a free port" if spec.port_setting else "or choose another port"
            raise SetupError(f"{spec.name}: port {spec.port} is held by {port_owner(spec.port)}; stop it, {change}")

    def _launch(self, spec: ProcessSpec) -> Running:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{spec.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        try:
            with log.open("wb") as stream:
                child = subprocess.Popen(
                    spec.argv,
                    env=os.environ | spec.env,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise SetupError(f"{spec.name}: cannot run {spec.argv[0]}: {error.strerror}; run make setup") from error
        self._children[child.pid] = child
        try:
            started = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:
            started = time.time()
        running = Running(
            name=spec.name,
            pid=child.pid,
            started=started,
            digest=spec.digest,
            port=spec.port,
            ready_url=spec.ready_url,
            stop_grace_s=spec.stop_grace_s,
            log=str(log),
        )
        write_atomic(self._state(spec.name), running.model_dump_json())
        return running

    def _wait_ready(self, running: Running, spec: ProcessSpec) -> None:
        child = self._children[running.pid]
        deadline = time.monotonic() + spec.ready_timeout_s
        while True:
            ready = answers(spec.ready_url)
            code = child.poll()
            if code is not None:
                what = f"exited with code {code} while starting"
                break
            if ready:
                return
            if time.monotonic() > deadline:
                what = f"was not ready after {spec.ready_timeout_s:g} s ({spec.ready_url})"
                break
            time.sleep(POLL_S)
        log = Path(running.log)
        raise SetupError(f"{spec.name} {what}. See {log}; its last lines:\n{log_tail(log) or '(the log is empty)'}")
