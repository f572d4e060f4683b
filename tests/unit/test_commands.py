"""What the commands do: releases and pointers, reports, questions, servers that are shared and kept."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows import commands
from flows.servers import servers, stop_all
from infra.errors import InputError, SetupError, TryAgainError
from infra.ports import port_is_free
from infra.processes import ProcessManager, ProcessSpec
from infra.records import Records
from infra.settings import settings
from infra.store import ArtifactRef
from models.release import ModelPart, Release
from tests.environment import only


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only(monkeypatch, HOME=tmp_path / "state", PREFECT_URL="http://127.0.0.1:9/api", MLFLOW_URL="sqlite://"):
        (tmp_path / "state").mkdir()
        yield tmp_path / "state"


@pytest.fixture
def live() -> Records:
    return Records.open(settings().database_url)


def release(name: str, **guards: object) -> Release:
    part = ArtifactRef(kind="x", digest=name * 64, uri=f"/store/{name}")
    return Release(
        model=ModelPart(base=part), prompt=part, index=part, retrieval={"k": 5}, guards=guards, judge="1", code="2"
    )


OLD, NEW = release("a", share=0.5), release("b", share=1.0)


def register(live: Records, one: Release, state: str = "PASS") -> None:
    live.add_release(one.digest, one.model_dump(mode="json"), "e" * 64, state)


def test_releases_by_prefix_and_alias(live: Records) -> None:
    assert commands.list_releases() == []
    for one in (OLD, NEW):
        register(live, one)
    live.promote(OLD.digest, None)
    rows = commands.list_releases()
    assert {row["release"] for row in rows} == {OLD.digest, NEW.digest}
    assert {row["release"]: row["aliases"] for row in rows} == {OLD.digest: "production", NEW.digest: ""}
    shown = commands.show_release(OLD.digest[:10])
    assert (shown["digest"], shown["state"], shown["gate_report"]) == (OLD.digest, "PASS", "e" * 64)
    assert commands.show_release("production")["digest"] == OLD.digest
    for wanted in ("", "zzz", "candidate"):
        with pytest.raises(InputError, match=rf"release '{wanted}': (0|2) match; see `sluice releases list`"):
            commands.show_release(wanted)


def test_what_differs_between_two_releases(live: Records) -> None:
    for one in (OLD, NEW):
        register(live, one)
    left, right = OLD.digest[:8], NEW.digest[:8]
    rows = {row["field"]: (row[left], row[right]) for row in commands.diff_releases(left, right)}
    assert rows["guards.share"] == (0.5, 1.0)
    assert rows["index.digest"] == ("a" * 64, "b" * 64)
    assert not any(name.endswith("uri") for name in rows)
    assert commands.diff_releases(left, left) == []


@pytest.mark.parametrize("state", ["PASS", "FAIL", "ROLLED_BACK", "PROMOTED", "REGISTERED"])
def test_only_a_held_release_is_promoted_by_hand(live: Records, state: str) -> None:
    register(live, OLD)
    live.promote(OLD.digest, None)
    register(live, NEW, state)
    with pytest.raises(InputError, match=f"is {state}: only one that passed the gate"):
        commands.promote(NEW.digest)
    assert live.pointer("production") == OLD.digest


def test_promote_and_roll_back(live: Records) -> None:
    with pytest.raises(InputError, match="no previous release"):
        commands.rollback("why not")
    register(live, OLD)
    live.promote(OLD.digest, None)
    register(live, NEW, "HELD")
    assert commands.promote(NEW.digest[:12]) == {"production": NEW.digest, "previous": OLD.digest}
    row = live.release(NEW.digest)
    assert row is not None
    assert (row.state, row.gate_report) == ("PROMOTED", "e" * 64)
    assert commands.rollback("too slow") == {"production": OLD.digest, "previous": NEW.digest}
    assert live.history("production")[-1].reason == "too slow"
    assert commands.status()["pointers"] == {"production": OLD.digest, "previous": NEW.digest}


def test_the_newest_report(home: Path) -> None:
    with pytest.raises(InputError, match="no report yet: run `sluice run nightly` first"):
        commands.newest_report()
    (home / "reports").mkdir()
    for name, verdict in (("one", "FAIL"), ("two", "PASS")):
        (home / "reports" / f"{name}.json").write_text(json.dumps({"verdict": verdict, "release": name}))
    told = commands.newest_report()
    assert (Path(told["page"]).name, told["verdict"]) == ("two.html", "PASS")


def test_an_unknown_trace_and_an_unknown_bench() -> None:
    with pytest.raises(InputError, match="trace 'nothing': not in the records"):
        commands.explain_trace("nothing")
    for name in ("nothing", "__init__", "../tasks/policy"):
        with pytest.raises(InputError, match=r"no benchmark .*there are .*retrieval"):
            commands.bench(name, write=False)


@contextmanager
def gateway(monkeypatch: pytest.MonkeyPatch, status: int, body: str) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """A gateway that always says the same; what it was asked, with the key."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.headers["authorization"], sent))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    worker = threading.Thread(target=server.serve_forever)
    worker.start()
    monkeypatch.setenv("SLUICE_GATEWAY_PORT", str(server.server_address[1]))
    settings.cache_clear()
    try:
        yield asked
    finally:
        server.shutdown()
        worker.join()
        server.server_close()


def test_a_question_goes_out_with_the_operators_key(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with gateway(monkeypatch, 200, '{"answer": "14 days"}') as asked:
        assert commands.ask("How long?", "") == {"answer": "14 days"}
        commands.ask("How long?", "s-1")
    key = (home / "gateway.key").read_text()
    assert asked == [
        (f"Bearer {key}", {"question": "How long?"}),
        (f"Bearer {key}", {"question": "How long?", "session": "s-1"}),
    ]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(422, InputError, 2), (401, InputError, 2), (429, TryAgainError, 1), (503, TryAgainError, 1)],
)
def test_a_gateway_that_says_no(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[InputError | TryAgainError], code: int
) -> None:
    with gateway(monkeypatch, status, "why"), pytest.raises(kind, match=rf"\({status}\): why") as raised:
        commands.ask("How long?", "")
    assert raised.value.exit_code == code


def test_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_GATEWAY_PORT", "9")
    settings.cache_clear()
    with pytest.raises(SetupError, match=r"no gateway at http://127\.0\.0\.1:9: start it with `sluice up`"):
        commands.ask("How long?", "")


def server(name: str) -> ProcessSpec:
    """A small real server."""
    port = next(port for port in range(23000 + os.getpid() % 1000, 60000) if port_is_free("127.0.0.1", port))
    argv = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    return ProcessSpec(name=name, argv=argv, port=port, ready_url=f"http://127.0.0.1:{port}/", ready_timeout_s=60)


@pytest.fixture
def manager(home: Path) -> Iterator[ProcessManager]:
    made = ProcessManager(home)
    yield made
    made.stop_all()


def alive(manager: ProcessManager) -> set[str]:
    return {status.name for status in manager.status() if status.alive}


def test_a_run_stops_what_it_started_and_the_last_of_several_does_it(manager: ProcessManager) -> None:
    with servers(settings(), manager, keep=False) as started:
        assert started == []
        manager.start(server("engine-1"))
        with servers(settings(), manager, keep=False):
            pass
        assert alive(manager) == {"engine-1"}
    assert alive(manager) == set()


def test_what_up_keeps_goes_on(manager: ProcessManager) -> None:
    with servers(settings(), manager, keep=True):
        manager.start(server("mlflow"))
    with servers(settings(), manager, keep=False):
        manager.start(server("engine-1"))
    assert alive(manager) == {"mlflow"}
    assert [row["server"] for row in commands.status()["servers"]] == ["mlflow"]
    assert commands.status()["stopped"] == ["prefect", "gateway", "exporter", "runner"]
    assert commands.down() == ["mlflow"]
    assert commands.down() == []
    with servers(settings(), manager, keep=False):
        manager.start(server("mlflow"))
    assert alive(manager) == set()


def test_engines_behind_a_kept_gateway_go_on(manager: ProcessManager) -> None:
    with servers(settings(), manager, keep=True):
        manager.start(server("gateway"))
    with servers(settings(), manager, keep=False):
        manager.start(server("engine-1"))
        manager.start(server("other"))
    assert alive(manager) == {"gateway", "engine-1"}
    assert stop_all(manager) == ["gateway", "engine-1"]


def test_a_run_that_fails_stops_what_it_started(manager: ProcessManager) -> None:
    with pytest.raises(InputError, match="wrong"), servers(settings(), manager, keep=False):
        manager.start(server("engine-1"))
        raise InputError("wrong")
    assert alive(manager) == set()


def test_overrides_are_written_as_field_and_yaml() -> None:
    assert commands.override("training.method=ia3") == ("training.method", "ia3")
    assert commands.override("quantization.precisions=[w8a8, nf4]") == ("quantization.precisions", ["w8a8", "nf4"])
    for wrong in ("training.method", "method=ia3", "a.b={"):
        with pytest.raises(InputError, match="--set"):
            commands.override(wrong)
