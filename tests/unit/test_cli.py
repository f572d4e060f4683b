"""The command line: misuse is one clear line and exit code 2, failure is 1, --json is one value and nothing else."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.printing import print_answer, print_result, print_value
from infra.records import Records, Trace
from infra.settings import ROOT, settings
from tests.environment import only

COMMANDS = [
    "up", "down", "status", "run", "ask", "explain", "report", "bench", "plan-memory", "advise", "break-even",
    "compare-loads", "check-data", "doctor", "releases", "key",
]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only(monkeypatch, HOME=tmp_path / "state", PREFECT_URL="http://127.0.0.1:9/api", MLFLOW_URL="sqlite://"):
        (tmp_path / "state").mkdir()
        yield tmp_path / "state"


def sluice(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def command(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The command as a process of its own."""
    argv = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)


def test_help_names_every_command() -> None:
    told = sluice("--help")
    assert told.exit_code == 0
    assert [name for name in COMMANDS if f" {name} " not in told.output] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench", "nothing"], "no benchmark 'nothing': there are "),
        (["explain", "nothing"], "trace 'nothing': not in the records"),
        (["releases", "show", "abc"], "release 'abc': 0 match; see `sluice releases list`"),
        (["releases", "diff", "abc", "abd"], "release 'abc': 0 match"),
        (["releases", "promote", "abc"], "release 'abc': 0 match"),
        (["releases", "rollback"], "there is no previous release to go back to"),
        (["report"], "no report yet: run `sluice run nightly` first"),
        (["run", "ingest", "--compare"], "it goes with `sluice run index`, not ingest"),
        (["run", "ingest", "--against", "abc"], "it goes with `sluice run benchmark`, not ingest"),
        (["compare-loads", "abc", "abd"], "report 'abc': 0 match; give a path or more of the digest"),
        (["compare-loads", "no/thing", "abd"], "'no/thing': neither a file nor the beginning of a digest"),
        (["run", "ingest", "--policy", "/nowhere/sluice.yaml"], "/nowhere/sluice.yaml: no policy file; copy"),
    ],
)
def test_misuse(arguments: list[str], says: str) -> None:
    plain, as_json = sluice(*arguments), sluice(*arguments, "--json")
    assert (plain.exit_code, as_json.exit_code) == (2, 2)
    assert plain.stdout == ""
    assert plain.stderr.count("\n") == 1
    assert plain.stderr.startswith("sluice: ")
    assert says in plain.stderr
    assert says in json.loads(as_json.stdout)["error"]
    assert as_json.stderr == plain.stderr


@pytest.mark.parametrize(
    ("section", "value", "says"),
    [
        ("gate", {"alpha": 7}, "gate.alpha: "),
        ("gaet", {}, "unknown section 'gaet'"),
        ("model", {"base": "./nowhere"}, "model.base: './nowhere' is neither a folder nor a Hugging Face id"),
        ("model", {"base": "models/typo"}, "model.base: 'models/typo' is neither a folder nor a Hugging Face id"),
    ],
)
def test_a_wrong_policy_file(tmp_path: Path, home: Path, section: str, value: dict[str, object], says: str) -> None:
    sections = yaml.safe_load((ROOT / "sluice.yaml").read_text("utf-8"))
    sections["model"] = {"base": str(ROOT / "models" / "starter" / "weights")}
    sections[section] = sections.get(section, {}) | value
    policy = tmp_path / "sluice.yaml"
    (tmp_path / "models").mkdir()
    policy.write_text(yaml.safe_dump(sections), "utf-8")
    told = sluice("run", "nightly", "--policy", str(policy), "--json")
    assert told.exit_code == 2
    assert says in json.loads(told.stdout)["error"]
    assert str(policy) in told.stderr
    assert not {"run", "run.lock", "store"} & {path.name for path in home.iterdir()}


@pytest.mark.parametrize("arguments", [["run", "nothing"], ["run"], ["nothing"], ["ask"], ["status", "--jsn"]])
def test_words_that_no_command_knows(arguments: list[str]) -> None:
    assert sluice(*arguments).exit_code == 2


def test_an_unknown_setting_stops_every_command() -> None:
    told = command("status", SLUICE_HOEM="/x")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("sluice: unknown setting SLUICE_HOEM: known ones are SLUICE_BENCHMARK_API_KEY, ")
    assert told.stderr.count("\n") == 1


def test_a_gateway_that_is_away_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_GATEWAY_PORT", "9")
    settings.cache_clear()
    told = sluice("ask", "How long?", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout) == {"error": told.stderr.removeprefix("sluice: ").strip()}


def test_status_down_and_list_on_a_fresh_machine() -> None:
    status = sluice("status", "--json")
    assert json.loads(status.stdout) == {
        "servers": [], "stopped": ["prefect", "mlflow", "gateway", "exporter", "runner"], "pointers": {},
        "traces": {"urgent": 0, "ordinary": 0, "ratings": 0, "left_out": 0},
    }  # fmt: skip
    assert "no release yet: run `sluice run nightly`" in sluice("status").stdout
    assert json.loads(sluice("down", "--json").stdout) == {"stopped": []}
    assert json.loads(sluice("releases", "list", "--json").stdout) == []
    assert "releases: nothing yet" in sluice("releases", "list").stdout


@pytest.mark.parametrize("taken", [False, True])
def test_the_doctor_exits_with_what_it_found(monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        if taken:
            probe.listen()
        monkeypatch.setenv("SLUICE_GATEWAY_PORT", str(probe.getsockname()[1] if taken else 18899))
        settings.cache_clear()
        told = sluice("doctor", "--json")
    checks = json.loads(told.stdout)
    fit = all(check["ok"] for check in checks if check["required"])
    assert told.exit_code == (0 if fit else 1)
    if taken:
        assert told.exit_code == 1


def test_explain_prints_what_stands_in_the_records(home: Path) -> None:
    live = Records.open(settings().database_url)
    live.add_traces([Trace(trace_id="0" * 32, created=1.0, release="a" * 64, arm="production", question="[/b] odd")])
    told = sluice("explain", "0" * 32)
    assert told.exit_code == 2
    assert "its release aaaaaaaaaaaa is not registered here" in told.stderr


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=100, file=io.StringIO())


def test_texts_are_shown_as_they_are(console: Console) -> None:
    answer = {
        "question": "What is [b]?", "answer": "[/b] 14 days [1] [red]x[/red]",
        "citations": [{"number": 1, "title": "[x] Guide", "document": "doc-[1]"}],
    }  # fmt: skip
    print_answer(answer, console)
    print_value({"answer": "[/b] one"}, "", console)
    print_value([{"[a]": "[/b] two"}], "rows", console)
    print_result({"answers": [answer], "reasons": ["[/b] three"], "report": "/x/[y].html"}, console)
    text = console.export_text()
    for part in ("[/b] 14 days [1] [red]x[/red]", "[1] [x] Guide (doc-[1])", "[/b] one", "[/b] two", "[/b] three"):
        assert part in text
    assert "What is [b]?" in text
    assert "/x/[y].html" in text


def test_the_table_of_compared_indexes(console: Console) -> None:
    rows = [
        {"kind": "flat", "rows": 9, "p50_ms": 0.12345, "disk_bytes": 3 * 2**20, "price_10m": 45.5, "note": ""},
        {"kind": "ivf-pq", "rows": 9, "p50_ms": None, "disk_bytes": None, "note": "learns from [at] least 624"},
    ]
    print_result({"indexes": rows, "choice": ["flat: exact", "not hnsw: [/b]"]}, console)
    text = console.export_text()
    assert "disk_mib" in text
    assert "flat   │ 9    │ 0.123  │ 3        │" in text
    assert "ivf-pq │ 9    │ –      │ –        │ learns from [at] least 624" in text
    assert "flat   │ 45.5" in text
    assert "not hnsw: [/b]" in text


def test_the_tables_of_a_search_and_what_it_proposes(console: Console) -> None:
    rounds = [{"round": 1, "questions": 9, "candidate": "mode=[dense]", "mean": 0.123456, "kept": True}]
    proof = [{"slice": "all", "difference": 0.5, "low": None}]
    told = {"rounds": rounds, "proof": proof, "verdict": "PASS", "winner": "mode=[dense]", "proposal": "k: [8]\n"}
    print_result(told, console)
    text = console.export_text()
    for part in ("mode=[dense] │ 0.1235 │ True", "all   │ 0.5        │ –", "winner: mode=[dense]", "k: [8]"):
        assert part in text


def test_the_table_of_a_run(console: Console) -> None:
    row = {"status": "cached", "seconds": 0.04, "computed": 0, "total": 12}
    print_result({"stages": {"embed": row}, "verdict": "UNCHANGED", "seconds": 3.2}, console)
    text = console.export_text()
    assert "embed │ cached │     0.0 │        0 │ 12" in text
    assert "verdict: UNCHANGED" in text
    print_result({"exported": 3, "purged": 0}, console)
    assert "exported: 3" in console.export_text()


def test_a_sweep_is_told_in_megabytes_with_its_bounds() -> None:
    row = {
        "precision": "w8a8", "bits": 8, "bytes_on_disk": 3_700_216, "bytes_in_memory": 3_690_000,
        "memory_from": "planner", "safe_concurrency": 31, "tokens_per_s": 412.34, "p50_ms": 151.2, "p95_ms": 240.9,
        "cost_per_good_answer": 1e-6, "quality": 0.401, "decision": "PASS", "note": "",
        "difference": {"mean": -0.008, "low": -0.03, "high": 0.01, "n": 121, "confidence": 0.9},
    }  # fmt: skip
    empty = dict.fromkeys(row) | {"precision": "w4a16", "decision": "FAIL", "note": "not served: group"}
    console = Console(file=io.StringIO(), width=130, record=True)
    print_result({"sweep": [row, empty]}, console)
    text = console.export_text()
    assert "3.70, 3.69" in text
    assert "151, 241" in text
    assert "-0.008 (-0.030 to +0.010)" in text
    assert "FAIL, not served " in text


def test_a_file_of_training_data_is_checked_without_a_training(tmp_path: Path) -> None:
    rows = [
        {"question": "Where is the depot?", "answer": "In Harrow."},
        {"question": "Is sewerage billed together with water?", "answer": "Yes."},
        {"question": "Why?"},
        {"question": "Where is the depot?", "answer": "In Harrow."},
    ]
    gate = json.loads((ROOT / "infra/sample/cases/gate.jsonl").read_text("utf-8").splitlines()[0])
    rows[1]["question"] = gate["question"]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    told = sluice("check-data", str(path), "--json")
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert (found["format"], found["usable"], found["bad"], found["refused"]) == ("instruction", 1, 1, 2)
    assert [(row["line"], row["why"]) for row in found["lines"]] == [(3, "unusable"), (2, "overlaps"), (4, "repeats")]
    assert gate["id"] in found["lines"][1]["reason"]
    path.write_text(json.dumps(rows[0]), "utf-8")
    clean = sluice("check-data", str(path))
    assert (clean.exit_code, "refused rows" in clean.stdout) == (0, False)
    assert sluice("check-data", str(tmp_path / "none.jsonl")).exit_code == 2
