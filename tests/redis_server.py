"""A Redis server of the tests' own: started on a free port, stopped and started again at will."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as NotThere
from redis.retry import Retry


class RedisServer:
    """`redis-server` in memory only. Skips the test where the program is missing."""

    def __init__(self, folder: Path) -> None:
        self._program = shutil.which("redis-server")
        if self._program is None:
            pytest.skip("no redis-server on this machine")
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and return when it answers."""
        argv = [str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(argv, cwd=self._folder, stdout=subprocess.DEVNULL)
        retry = Retry(ConstantBackoff(0.05), 200, supported_errors=(NotThere,))
        with Redis.from_url(self.url, retry=retry, retry_on_error=[NotThere]) as client:
            client.ping()

    def kill(self) -> None:
        """End it without a farewell."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
