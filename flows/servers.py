"""Prefect and MLflow around a run: started where they are missing, shared by runs at once, stopped by the last one."""

import fcntl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from infra.processes import ProcessManager
from infra.services import mlflow_server, prefect_server
from infra.settings import Settings
from infra.store import write_atomic


@contextmanager
def servers(config: Settings, manager: ProcessManager, keep: bool) -> Iterator[list[str]]:
    """Prefect and MLflow up inside the block. At its end everything stops but what `sluice up` keeps.

    Of several runs at once the last one stops them. Where `up` keeps a gateway, the engines behind it go on as well:
    what is live stays live.
    """
    wanted = [] if config.mlflow_url else [mlflow_server(config)]
    wanted += [] if config.prefect_url else [prefect_server(config)]
    manager.run.mkdir(parents=True, exist_ok=True)
    with (manager.run / "servers.lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        before = {status.name for status in manager.status() if status.alive}
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(manager.start, wanted))
            yield [spec.name for spec in wanted if spec.name not in before]
        finally:
            if keep:
                _keep(manager)
            elif _is_last(users):
                _stop_unkept(manager)


def _kept(manager: ProcessManager) -> Path:
    """File with the names of the processes that `sluice up` left running; `sluice down` removes it."""
    return manager.run / "kept"


def _keep(manager: ProcessManager) -> None:
    write_atomic(_kept(manager), " ".join(status.name for status in manager.status() if status.alive))


def _is_last(users: IO[str]) -> bool:
    """Whether no other run holds the lock that every run shares; the kernel frees that of a killed one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stop_unkept(manager: ProcessManager) -> None:
    file = _kept(manager)
    kept = set(file.read_text("utf-8").split()) if file.is_file() else set()
    names = [status.name for status in manager.status() if status.alive and status.name not in kept]
    gone = [name for name in names if not ("gateway" in kept and name.startswith("engine-"))]
    for name in sorted(gone, key=_stop_order):
        manager.stop(name)


def stop_all(manager: ProcessManager) -> list[str]:
    """Stop every process of the state folder; the names stopped, callers before what they call."""
    names = sorted((status.name for status in manager.status() if status.alive), key=_stop_order)
    for name in names:
        manager.stop(name)
    _kept(manager).unlink(missing_ok=True)
    return names


def _stop_order(name: str) -> int:
    """Callers before what they call: runner, gateway, engines and exporter, then Prefect and MLflow."""
    return {"runner": 0, "gateway": 1, "prefect": 3, "mlflow": 4}.get(name, 2)
