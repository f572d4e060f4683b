"""Decisions about the shape of the project, as tests: Prefect's place, names, deployments, forms, policies.

The layers themselves are checked by `make lint`.
"""

import ast
import inspect
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import ROOT, Policy

DOMAIN = ("infra", "indexes", "models", "evaluation")
LAYERS = (*DOMAIN, "tasks", "flows")
OTHER_ENVIRONMENTS = ("infra/migrations", "models/serving/vllm_plugin")
"""Loaded by Alembic and by vLLM in places of their own, never imported."""
WITHOUT_PREFECT = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prefect":
            raise ImportError("prefect is not there")

sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(name)
assert "prefect" not in sys.modules
"""
ELSEWHERE = re.compile(
    r"/(?:home|Users|root|work|mnt|workspace)/\w|[A-Z]:\\\\?Users|\w\.(?:local|internal|corp|lan)(?::\d+|/)"
)
"""Places that exist on the machine of who wrote the line."""
TEMPORARY = re.compile(r"(?:/tmp)/\w")
"""Tests may name such a place where nothing is read from it."""


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def imported(path: Path) -> set[str]:
    """Top packages that a file imports, by statement or by `import_module` of a literal."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            found |= {str(given.value) for given in node.args if isinstance(given, ast.Constant)}
    return {name.split(".")[0] for name in found}


def test_only_flows_and_tasks_know_prefect() -> None:
    assert [path for path in modules(*DOMAIN) if "prefect" in imported(path)] == []
    assert any("prefect" in imported(path) for path in modules("flows", "tasks"))


def test_the_domain_is_imported_where_prefect_is_missing() -> None:
    names = [
        path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
        for path in modules(*DOMAIN)
        if not path.relative_to(ROOT).as_posix().startswith(OTHER_ENVIRONMENTS)
    ]
    command = [sys.executable, "-c", WITHOUT_PREFECT, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_is_called_common() -> None:
    names = {path.stem for path in modules(*LAYERS)} | {path.name for path in ROOT.glob("*/*") if path.is_dir()}
    assert not names & {"common", "utils", "util", "core", "helpers", "helper", "misc", "shared"}


def test_every_file_says_first_what_it_is() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in modules(*LAYERS, "tests")
        if (text := path.read_text("utf-8")).strip() and ast.get_docstring(ast.parse(text)) is None
    ]
    assert silent == []


def test_no_tracked_file_names_a_place_on_somebodys_machine() -> None:
    host = socket.gethostname()
    own = [str(ROOT)] + ([host] if len(host) > 8 else [])
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        data = path.read_bytes()
        if b"\0" in data[:8000]:
            continue
        patterns = [ELSEWHERE] if path.is_relative_to(ROOT / "tests") else [ELSEWHERE, TEMPORARY]
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if any(pattern.search(line) for pattern in patterns) or any(name in line for name in own):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def deployed() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    return entries


def flow_of(entry: dict[str, Any]) -> Any:
    from importlib import import_module

    path, function = entry["entrypoint"].split(":")
    assert (ROOT / path).is_file()
    return getattr(import_module(path.removesuffix(".py").replace("/", ".")), function)


def test_every_flow_of_the_command_line_is_deployed_under_its_name() -> None:
    from flows.cli import FlowName

    assert {entry["name"] for entry in deployed()} == {flow.value for flow in FlowName}
    for entry in deployed():
        flow = flow_of(entry)
        assert (flow.name, flow.description) == (entry["name"], entry["description"])


def test_every_deployment_can_be_served() -> None:
    from flows.serve import deployments

    made = {deployment.name: deployment for deployment in deployments()}
    assert set(made) == {entry["name"] for entry in deployed()}
    for entry in deployed():
        deployment = made[entry["name"]]
        assert deployment.concurrency_limit == entry["concurrency_limit"]["limit"] == 1
        assert len(deployment.schedules or []) == len(entry.get("schedules", []))
    assert made["nightly"].schedules


def fields_without_description(schema: dict[str, Any]) -> Iterator[str]:
    for name, model in schema.get("definitions", {}).items():
        if "enum" in model:
            continue
        for field, described in model.get("properties", {}).items():
            if not described.get("description", "").strip():
                yield f"{name}.{field}"


@pytest.mark.parametrize("entry", deployed(), ids=lambda entry: str(entry["name"]))
def test_a_flow_takes_one_spec_that_its_form_can_show(entry: dict[str, Any]) -> None:
    from prefect.utilities.callables import parameter_schema

    from infra.settings import Spec

    function = flow_of(entry).fn
    (parameter,) = inspect.signature(function).parameters.values()
    assert issubclass(parameter.annotation, Spec)
    assert parameter.default == parameter.annotation()
    schema = parameter_schema(function).model_dump()
    assert list(fields_without_description(schema)) == []
    assert parameter.annotation.__name__ in schema["definitions"]


@pytest.mark.parametrize(("file", "flow"), [("sluice.yaml", "nightly"), ("infra/sample/xquad.yaml", "index")])
def test_every_section_of_a_policy_file_is_valid(file: str, flow: str) -> None:
    from flows.checking import check_policy

    check_policy(Policy(ROOT / file), flow)


def test_the_readme_names_every_section() -> None:
    from flows.checking import SECTIONS

    readme = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in SECTIONS if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "evaluation" / "benches").glob("[a-z]*.py"))])
def test_every_bench_runs_on_settings_alone(name: str) -> None:
    from importlib import import_module

    function = import_module(f"evaluation.benches.{name}").run
    assert list(inspect.signature(function).parameters) == ["settings"]


def test_the_command_line_starts_without_heavy_packages() -> None:
    """Every one of them takes a second or more, and each command pays for it."""
    heavy = {"faiss", "mlflow", "numpy", "prefect", "scipy", "torch", "transformers"}
    code = f"import sys, flows.cli; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
