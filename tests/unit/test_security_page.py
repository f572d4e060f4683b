"""The page on security: every risk of the OWASP list has its controls, and every test that it names exists."""

import ast
import re

import pytest

from infra.settings import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
RISKS = [f"LLM{number:02}" for number in range(1, 11)]


@pytest.mark.parametrize("risk", RISKS)
def test_every_risk_has_controls_with_tests(risk: str) -> None:
    parts = re.split(r"^### ", PAGE, flags=re.MULTILINE)
    (part,) = [one for one in parts if one.startswith(risk)]
    rows = [line for line in part.split("\n## ")[0].splitlines() if line.startswith("|")][2:]
    assert rows
    assert all(re.search(r"`tests/[\w/]+\.py::\w+`", row) for row in rows)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
