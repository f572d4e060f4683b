"""The gateway as a process: it starts without a release, says so, leaves on SIGTERM, and names a taken port."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from infra.settings import ROOT

pytestmark = pytest.mark.e2e


def _start(home: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "models.serving.gateway", "--port", str(port)]
    env = os.environ | {"SLUICE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


def test_start_answer_stop(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = _start(tmp_path, port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=5) as client:
            deadline = time.monotonic() + 90
            while True:
                try:
                    assert client.get("/health").status_code == 200
                    break
                except httpx.TransportError:
                    assert process.poll() is None, process.communicate()[1]
                    assert time.monotonic() < deadline, "the gateway did not come up"
            assert client.get("/ready").json() == {"ready": False, "reason": "no release is live"}
            assert client.post("/v1/answers", json={"question": "x"}).status_code == 401
        second = _start(tmp_path, port)
        _, said = second.communicate(timeout=90)
        assert second.returncode == 1
        assert "SLUICE_GATEWAY_PORT" in said
        assert "Traceback" not in said
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in said
