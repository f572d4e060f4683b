"""What the command line does, as functions that return plain values."""

import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from flows.servers import servers, stop_all
from infra.doctor import checks, fit
from infra.errors import InputError, SetupError, SluiceError, TryAgainError
from infra.processes import ProcessManager
from infra.records import Records
from infra.s3 import open_store
from infra.services import SERVERS, exporter, gateway_key, prefect_environment, runner
from infra.settings import ROOT, Policy, settings, use_policy
from infra.store import write_atomic
from models.answering.explain import explain
from models.release import Release

BENCHES = ROOT / "evaluation" / "benches"
PROGRESS = logging.getLogger("sluice.progress")
"""What the flows say as they go on."""


def _manager() -> ProcessManager:
    return ProcessManager(settings().home)


def _records() -> Records:
    return Records.open(settings().database_url)


def _use_policy(path: Path | None, flow: str = "", overrides: Mapping[str, Any] | None = None) -> Path:
    """`use_policy`, and a clear error now where the file or a value in it is wrong, or lacks what `flow` needs."""
    policy = Policy(use_policy(path), overrides)
    places = prefect_environment(settings())
    Path(places["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    os.environ.update(places)  # before the next line: Prefect reads it when it is imported
    from flows.checking import check_policy

    check_policy(policy, flow)
    return policy.path


def up(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Start everything and leave it running; the servers with their addresses."""
    from flows.serving import serve_production

    config = settings()
    path = _use_policy(None)
    with servers(config, _manager(), keep=True):
        say("Prefect and MLflow are up")
        _manager().start(runner(config, path))
        say("deployments are served")
        say(serve_production(path))
        _manager().start(exporter(config, path))
        say("traces are exported")
    servers_up: list[dict[str, Any]] = status()["servers"]
    return servers_up


def down() -> list[str]:
    """Stop every process of this state folder; the names stopped."""
    return stop_all(_manager())


def status() -> dict[str, Any]:
    """Servers, pointers, and how far the export of traces is."""
    addresses = {"prefect": settings().prefect_address, "mlflow": settings().mlflow_address}
    rows = [
        {
            "server": item.name,
            "address": addresses.get(item.name, f"http://{settings().host}:{item.port}"),
            "healthy": item.healthy,
            "pid": item.pid,
            "memory_mb": round(item.memory_mb),
            "up_s": round(item.uptime_s),
        }
        for item in _manager().status()
        if item.alive
    ]
    missing = [name for name in SERVERS if name not in {row["server"] for row in rows}]
    live = _records()
    return {
        "servers": rows,
        "stopped": missing,
        "pointers": live.pointers(),
        "traces": asdict(live.export_state()),
    }


class _Lines(logging.Handler):
    """Shows a run's progress lines with the time since it began."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.begin = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        self.console.print(f"[dim]{time.monotonic() - self.begin:6.1f} s[/]  {record.getMessage()}", highlight=False)


class _Stages(logging.Handler):
    """Keeps the rows of the stages that have ended, for a run that fails before it can return them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Any] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the row of a line that has one."""
        values = vars(record)
        if "row" in values:
            self.rows[values["stage"]] = values["row"].model_dump(mode="json")


@contextmanager
def _watched(live: Console | None) -> Iterator[_Stages]:
    """The rows of a run's stages, and its progress lines on a console."""
    stages = _Stages()
    handlers = [stages, *([_Lines(live)] if live else [])]
    PROGRESS.setLevel(logging.INFO)
    for handler in handlers:
        PROGRESS.addHandler(handler)
    try:
        yield stages
    finally:
        for handler in handlers:
            PROGRESS.removeHandler(handler)


def run_flow(
    name: str,
    path: Path | None,
    when_busy: str | None,
    live: Console | None,
    compare: bool = False,
    against: str = "",
    overrides: Sequence[str] = (),
) -> tuple[dict[str, Any], int]:
    """Run a flow in this process: (its result, exit code). A flow that failed gives `error` and its stages so far.

    `compare` asks the index flow to measure every kind of vector index, `against` the benchmark to compare with an
    earlier report; another flow raises InputError. `overrides` are `section.field=value`, the value in YAML: they
    change the policy file for this run.
    """
    if compare and name != "index":
        raise InputError(f"--compare measures vector indexes: it goes with `sluice run index`, not {name}")
    if against and name != "benchmark":
        raise InputError(f"--against names a report of loads: it goes with `sluice run benchmark`, not {name}")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # an error is told once, in one line
    changed = dict(map(override, overrides))
    _use_policy(path, name, changed)
    with _watched(live) as stages, servers(settings(), _manager(), keep=False) as started:
        PROGRESS.info("servers up: %s", ", ".join(started) or "they ran already")
        module = import_module(f"flows.{name}")
        function = getattr(module, name)
        kind = next(iter(inspect.signature(function.fn).parameters.values())).annotation
        try:
            asked = ({"compare": True} if compare else {}) | ({"against": against} if against else {})
            result = function(kind(policy=path, when_busy=when_busy, overrides=changed, **asked))
        except SluiceError as error:
            return {"flow": name, "error": str(error), "stages": stages.rows}, error.exit_code
        finally:
            _send_logs()
    value: dict[str, Any] = result if isinstance(result, dict) else result.model_dump(mode="json")
    return value, 0


def override(text: str) -> tuple[str, Any]:
    """`section.field=value` as (field, value). Raises InputError for another form and for what is no YAML."""
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise InputError(f"--set {text}: write section.field=value, such as training.method=lora")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is no YAML: {error}") from error


def _send_logs() -> None:
    """Give Prefect the lines that it sends in the background, while its server is still up."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()


def ask(question: str, session: str) -> dict[str, Any]:
    """One question to the gateway of this machine."""
    headers = {"authorization": f"Bearer {gateway_key(settings())}"}
    body = {"question": question} | ({"session": session} if session else {})
    try:
        reply = httpx.post(
            f"{settings().gateway_address}/v1/answers", json=body, headers=headers, timeout=120, trust_env=False
        )
    except httpx.TimeoutException as error:
        raise TryAgainError(f"the gateway at {settings().gateway_address} took too long to answer") from error
    except httpx.TransportError as error:
        raise SetupError(f"no gateway at {settings().gateway_address}: start it with `sluice up`") from error
    if reply.status_code == 429 or reply.is_server_error:
        raise TryAgainError(f"the gateway cannot answer now ({reply.status_code}): {reply.text[:300]}")
    if reply.is_error:
        raise InputError(f"the gateway refused the question ({reply.status_code}): {reply.text[:300]}")
    value: dict[str, Any] = reply.json()
    return value


def explain_trace(trace: str) -> dict[str, Any]:
    """Everything behind one answer."""
    return explain(trace, _records(), open_store(settings().store_url, settings().home))


def newest_report() -> dict[str, Any]:
    """The newest report's page and headline."""
    found = sorted((settings().home / "reports").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("no report yet: run `sluice run nightly` first")
    told = json.loads(found[-1].read_text("utf-8"))
    return {"page": str(found[-1].with_suffix(".html")), "verdict": told["verdict"], "release": told["release"]}


def bench(name: str, write: bool, live: Console | None = None) -> list[dict[str, Any]]:
    """Rows of one benchmark; appended to docs/benchmarks.md when asked."""
    from evaluation.benches import write_rows

    known = sorted(path.stem for path in BENCHES.glob("*.py") if path.stem != "__init__")
    if name not in known:
        raise InputError(f"no benchmark {name!r}: there are {', '.join(known)}")
    with _watched(live):
        rows = import_module(f"evaluation.benches.{name}").run(settings())
    if write:
        write_rows(name, rows, ROOT / "docs" / "benchmarks.md")
    return [row.model_dump(mode="json") for row in rows]


def compare_loads(before: str, after: str, picture: Path | None) -> dict[str, Any]:
    """Two reports of loads side by side, a row a figure, and why they may not be alike; `picture` gets the ratios."""
    from evaluation.loading.comparing import cautions, compare_runs
    from evaluation.loading.kept import find_loads
    from evaluation.loading.pictures import comparison_picture

    store = open_store(settings().store_url, settings().home)
    earlier, later = find_loads(before, store), find_loads(after, store)
    rows = compare_runs(earlier, later)
    if picture:
        write_atomic(picture, comparison_picture(rows))
    return {"comparison": [row.row() for row in rows], "reasons": cautions(earlier, later)}


def doctor() -> tuple[list[dict[str, Any]], bool]:
    """Checks of this machine, and whether everything that is required is there."""
    found = checks(settings())
    return [check.model_dump(mode="json") for check in found], fit(found)


def _find(prefix: str) -> Release:
    """The one release whose digest begins so, or that an alias names."""
    live = _records()
    wanted = live.pointers().get(prefix, prefix)
    found = [row for row in live.releases() if row.digest.startswith(wanted)]
    if len(found) != 1:
        raise InputError(f"release {prefix!r}: {len(found)} match; see `sluice releases list`")
    return Release.model_validate(found[0].release)


def list_releases() -> list[dict[str, Any]]:
    """Every release with its aliases."""
    live = _records()
    aliases: dict[str, list[str]] = {}
    for alias, digest in live.pointers().items():
        aliases.setdefault(digest, []).append(alias)
    return [
        {
            "release": row.digest,
            "state": row.state,
            "aliases": ", ".join(aliases.get(row.digest, [])),
            "precision": row.release["model"]["precision"],
            "created": time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.created)),
        }
        for row in live.releases()
    ]


def show_release(prefix: str) -> dict[str, Any]:
    """A release, its state and its gate report's digest."""
    release = _find(prefix)
    row = _records().release(release.digest)
    assert row is not None, "found a moment ago"
    return {
        "digest": release.digest,
        "state": row.state,
        "gate_report": row.gate_report,
        **release.model_dump(mode="json"),
    }


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in _flat(item, f"{path}.{name}" if path else name).items()
    }


def diff_releases(left: str, right: str) -> list[dict[str, Any]]:
    """Fields in which two releases differ (addresses do not count)."""
    ours, theirs = (_flat(_find(prefix).model_dump(mode="json")) for prefix in (left, right))
    names = [name for name in {**ours, **theirs} if not name.endswith("uri") and ours.get(name) != theirs.get(name)]
    return [{"field": name, left: ours.get(name), right: theirs.get(name)} for name in names]


def promote(prefix: str) -> dict[str, Any]:
    """Promote a release that passed the gate and whose canary a person was asked about."""
    from flows.serving import make_live

    live = _records()
    release = _find(prefix)
    row = live.release(release.digest)
    assert row is not None, "found a moment ago"
    if row.state != "HELD":
        raise InputError(
            f"release {release.digest[:12]} is {row.state}: only one that passed the gate and whose canary was HELD "
            "can be promoted by hand; use `sluice releases rollback` to go back"
        )
    production = live.pointer("production")
    make_live(release)
    if not live.promote(release.digest, production, "promoted by hand after a held canary"):
        raise InputError("production moved at the same moment; look at `sluice releases list` and try again")
    live.add_release(release.digest, row.release, state="PROMOTED")
    return {"production": release.digest, "previous": production}


def rollback(reason: str) -> dict[str, Any]:
    """Swap production and previous; the gateway follows within a second."""
    from flows.serving import make_live

    live = _records()
    previous = live.pointer("previous")
    if previous is None:
        raise InputError("there is no previous release to go back to")
    make_live(_find(previous))
    production = live.rollback(reason)
    return {"production": production, "previous": live.pointer("previous")}
