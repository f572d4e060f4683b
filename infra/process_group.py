"""Process groups of detached servers: who lives, and stopping all of them. A pid alone is not trusted: it is reused."""

import os
import signal
import time

import psutil

POLL_S = 0.1
KILL_WAIT_S = 10.0
SAME_START_S = 2.0
"""Two start times of one pid closer than this are one process: clocks are read with rounding."""


def live_process(pid: int, started: float) -> psutil.Process | None:
    """The process `pid` that began at `started` (seconds since the epoch), or None: gone, a zombie, or a reused pid."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def group_members(pid: int, started: float) -> list[psutil.Process]:
    """Live members of the group that leader `pid` founded at `started`, also when the leader itself is gone.

    Empty when the pid now belongs to a stranger who leads a group of the same number.
    """
    leader_is_other = psutil.pid_exists(pid) and live_process(pid, started) is None
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) != pid or process.status() == psutil.STATUS_ZOMBIE:
                continue
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
        if leader_is_other and process.pid == pid:
            return []
        members.append(process)
    return members


def signal_group(pid: int, started: float, number: signal.Signals) -> None:
    """Send a signal to every member; nothing when there is none."""
    if group_members(pid, started):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return


def wait_group_gone(pid: int, started: float, seconds: float) -> bool:
    """Whether the group was empty before `seconds` were over."""
    deadline = time.monotonic() + seconds
    while group_members(pid, started):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def stop_group(pid: int, started: float, grace_s: float) -> bool:
    """SIGTERM, `grace_s` seconds, SIGKILL; whether no member is left."""
    signal_group(pid, started, signal.SIGTERM)
    if wait_group_gone(pid, started, grace_s):
        return True
    signal_group(pid, started, signal.SIGKILL)
    return wait_group_gone(pid, started, KILL_WAIT_S)


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process; 0 when it has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
