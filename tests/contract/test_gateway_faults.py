"""The gateway as a process before an engine as a process: the engine is killed, the gateway is told to stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.processes import ProcessManager, ProcessSpec
from infra.records import Records
from infra.settings import ROOT

KEY = {"authorization": "Bearer bench-key"}
ASK = {"model": "sluice-chat", "messages": [{"role": "user", "content": "Which river feeds the reservoir?"}]}

SLOWLY = [{"role": "user", "content": "Say slowly which river feeds the reservoir."}]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Setting:
    """An engine and a gateway before it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.manager = ProcessManager(home / "engines")
        self.engine_port, self.port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    def start_engine(self) -> None:
        argv = (sys.executable, "-m", "tests.contract.slow_engine", str(self.engine_port))
        url = f"http://127.0.0.1:{self.engine_port}/health"
        self.manager.start(ProcessSpec(name="engine", argv=argv, port=self.engine_port, ready_url=url))

    def start_gateway(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "evaluation.benches.gatewaying.ours", "--port", str(self.port)]
        command += ["--upstream", f"http://127.0.0.1:{self.engine_port}", "--model", "base", "--home", str(self.home)]
        env = os.environ | {"SLUICE_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        until(lambda: self.get("/ready") == 200, lambda: process.poll() is None)
        return process

    def get(self, path: str) -> int:
        try:
            return httpx.get(self.address + path, trust_env=False, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def chat(self, **more: Any) -> httpx.Response:
        url = f"{self.address}/v1/chat/completions"
        return httpx.post(url, json=ASK | more, headers=KEY, trust_env=False, timeout=60)

    @contextmanager
    def stream(self, **more: Any) -> Iterator[Iterator[str]]:
        url, body = f"{self.address}/v1/chat/completions", ASK | {"stream": True} | more
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("POST", url, json=body, headers=KEY) as reply,
        ):
            yield (line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: "))

    def metric(self, name: str) -> float:
        page = httpx.get(f"{self.address}/metrics", trust_env=False, timeout=5).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


def until(met: Any, goes_on: Any = lambda: True, seconds: float = 90) -> None:
    """Return once `met`; fails when time is up, or when it cannot happen any more."""
    give_up = time.monotonic() + seconds
    while not met():
        assert goes_on()
        assert time.monotonic() < give_up
        time.sleep(0.02)


def texts(lines: Iterator[str]) -> Iterator[str]:
    """The text of each event; ends at the end or at an error event."""
    for line in lines:
        if line == "[DONE]":
            return
        event = json.loads(line)
        if "error" in event:
            yield f"error {event['error']['code']}"
            return
        yield (event["choices"] or [{"delta": {}}])[0]["delta"].get("content") or ""


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    made.start_engine()
    yield made
    made.manager.stop_all()


def test_engine_killed_in_mid_stream_is_told_left_alone_and_taken_back(setting: Setting) -> None:
    gateway = setting.start_gateway()
    try:
        with setting.stream(messages=SLOWLY) as lines:
            got = texts(lines)
            first = next(text for text in got if text)
            assert not first.startswith("error")
            engine = setting.manager.alive("engine")
            assert engine is not None
            os.killpg(engine.pid, signal.SIGKILL)
            assert list(got)[-1] == "error answer_broken"
        replies = [setting.chat() for _ in range(8)]
        assert {reply.status_code for reply in replies} == {200}
        assert {reply.json()["choices"][0]["message"]["content"][:22] for reply in replies} == {
            "The answer service has"
        }
        assert setting.metric("sluice_breaker_opened_total") >= 1
        begun = setting.metric("sluice_engine_failures_total")
        fast = [setting.chat() for _ in range(5)]
        assert all("fault" in reply.text for reply in fast)
        assert setting.metric("sluice_engine_failures_total") - begun <= 2, "left alone but for a trial"
        setting.start_engine()
        until(lambda: "fault" not in setting.chat().text, lambda: gateway.poll() is None)
        assert setting.metric("sluice_breaker_state") == 0
        records = Records.open(f"sqlite:///{setting.home / 'records.sqlite'}")
        until(lambda: len(records.traces()) >= 14)
        traces = records.traces()
        assert traces[0].error
        assert traces[-1].engine == "main:base"
        records.close()
    finally:
        gateway.kill()
        gateway.communicate()


def test_told_to_stop_it_ends_what_has_begun_and_takes_nothing_new(setting: Setting) -> None:
    gateway = setting.start_gateway()
    try:
        with setting.stream(messages=SLOWLY) as lines:
            got = texts(lines)
            begun = next(text for text in got if text)
            gateway.send_signal(signal.SIGTERM)
            until(lambda: setting.get("/ready") == 503, lambda: gateway.poll() is None)
            refused = setting.chat()
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
            assert int(refused.headers["retry-after"]) >= 1
            rest: list[str] = []
            reading = threading.Thread(target=lambda: rest.extend(got))
            reading.start()
            reading.join(60)
        assert rest
        assert not any(text.startswith("error") for text in [begun, *rest])
        _, said = gateway.communicate(timeout=60)
        assert gateway.returncode == 0, said
        assert "Traceback" not in said
        records = Records.open(f"sqlite:///{setting.home / 'records.sqlite'}")
        [trace] = records.traces()
        records.close()
        assert (trace.error, trace.engine) == ("", "main:base")
    finally:
        gateway.kill()
