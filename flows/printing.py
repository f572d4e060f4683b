"""How the command line prints: one JSON value for programs, tables and short lines for people."""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

LINES = ("verdict", "winner", "canary", "release", "previous", "seconds", "report", "mlflow_run", "exported", "purged")
"""Fields of a flow's result that people see as lines."""
SCALED = ("memory_10m_bytes", "price_10m", "memory_1b_bytes", "price_1b")
"""Columns of compared indexes that people see as a table of their own."""

TABLES = ("rounds", "proof")
"""Fields of a flow's result that people see as tables."""


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_value(value: Mapping[str, Any] | Sequence[Mapping[str, Any]], title: str, console: Console) -> None:
    """A mapping as lines, rows as a table."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            _line(name, item, console)
    elif not value:
        console.print(f"{title or 'result'}: nothing yet")
    else:
        table = Table(title=title or None, show_edge=False)
        for name in value[0]:
            table.add_column(escape(name), overflow="fold")
        for row in value:
            table.add_row(*(escape(str(cell(item))) for item in row.values()))
        console.print(table)


def cell(value: Any) -> Any:
    """A value of a table as people read it: four digits, an interval on one line, a dash for nothing."""
    if isinstance(value, float):
        return float(f"{round(value, 9):.4g}")
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(item)}" for name, item in value.items())
    return "–" if value is None else value


def print_answer(answer: Mapping[str, Any], console: Console) -> None:
    """An answer with its sources."""
    console.print(escape(answer["answer"]), style="bold", highlight=False)
    for source in answer["citations"]:
        line = f"  [{source['number']}] {source['title']} ({source['document']})"
        console.print(line, highlight=False, markup=False)


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """The final tables and lines of a run."""
    _tables(result, console)
    for reason in result.get("choice", []):
        console.print(f"  {reason}", highlight=False, markup=False)
    for answer in result.get("answers", []):
        console.print(f"\n{escape(answer['question'])}", highlight=False)
        print_answer(answer, console)
    console.print()
    for name in LINES:
        if name in result:
            _line(name, result[name], console)
    for reason in result.get("reasons", []):
        console.print(f"  {reason}", highlight=False, markup=False)
    if result.get("proposal"):
        console.print(f"\n{result['proposal']}", highlight=False, markup=False)


def _tables(result: Mapping[str, Any], console: Console) -> None:
    if "stages" in result:
        table = Table(title="stages", show_edge=False)
        for column in ("stage", "status", "seconds", "computed", "of"):
            table.add_column(column, justify="left" if column in {"stage", "status"} else "right")
        for name, row in result["stages"].items():
            table.add_row(name, row["status"], f"{row['seconds']:.1f}", str(row["computed"]), str(row["total"]))
        console.print(table)
    if result.get("indexes"):
        print_value([_index_row(row, SCALED, keep=False) for row in result["indexes"]], "vector indexes", console)
        scaled = [_index_row(row, {"kind", *SCALED}, keep=True) for row in result["indexes"]]
        print_value(scaled, "by formula, at 10 million and a billion vectors", console)
    for name in TABLES:
        if result.get(name):
            print_value(result[name], name, console)


def _index_row(row: Mapping[str, Any], columns: Collection[str], *, keep: bool) -> dict[str, Any]:
    """A compared index as people read it, with or without these columns: sizes in MiB, three digits."""
    told = {}
    for name, value in row.items():
        if (name in columns) != keep:
            continue
        size = name.endswith("_bytes")
        number = value / 2**20 if size and value is not None else value
        shown = f"{number:.3g}" if isinstance(number, float) else number
        told[name.removesuffix("_bytes") + "_mib" if size else name] = shown
    return told


def _line(name: str, value: object, console: Console) -> None:
    console.print(f"[bold]{escape(name)}[/]: {escape(str(value))}", highlight=False, soft_wrap=True)
