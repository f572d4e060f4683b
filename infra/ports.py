"""Ports of this machine: free or taken, by whom, and whether a server answers on one."""

import errno
import socket

import httpx
import psutil

from infra.errors import SetupError


def port_owner(port: int) -> str:
    """`pid N (name)` of the process that listens on `port`, or "an unknown process" where that is not visible."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                continue
    return "an unknown process"


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could bind `host:port` now.

    Raises: SetupError when the address is not one of this machine or the port needs rights.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise SetupError(f"cannot bind {host}:{port}: {error.strerror}; change SLUICE_HOST or the port") from error
        return True


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a GET of `url` gives 200 within `timeout_s`."""
    try:
        return httpx.get(url, timeout=timeout_s, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
