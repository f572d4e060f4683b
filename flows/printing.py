"""How the command line prints: one JSON value for programs, tables and short lines for people."""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

LINES = (
    "verdict",
    "winner",
    "routing",
    "canary",
    "release",
    "previous",
    "seconds",
    "report",
    "mlflow_run",
    "exported",
    "purged",
)
"""Fields of a flow's result that people see as lines."""
SCALED = ("memory_10m_bytes", "price_10m", "memory_1b_bytes", "price_1b")
"""Columns of compared indexes that people see as a table of their own."""

TABLES = ("rounds", "proof", "curve", "loads", "times", "steps", "comparison", "models")
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


def parameters(count: float) -> str:
    """A number of parameters as people say it: `8.03 billion parameters`, `3.15 million parameters`."""
    value, unit = (count / 1e9, "billion") if count >= 1e9 else (count / 1e6, "million")
    return f"{value:.2f} {unit} parameters"


def print_answer(answer: Mapping[str, Any], console: Console) -> None:
    """An answer with its sources."""
    console.print(escape(answer["answer"]), style="bold", highlight=False)
    for source in answer["citations"]:
        line = f"  [{source['number']}] {source['title']} ({source['document']})"
        console.print(line, highlight=False, markup=False)


PLANNED = {
    "weights_bytes": "weights",
    "lora_bytes": "slots for adapters",
    "activation_bytes": "activations (estimate)",
    "overhead_bytes": "runtime (estimate)",
    "cache_needed_bytes": "cache of the requests",
    "free_bytes": "free",
    "usable_bytes": "usable of the card",
}
"""Parts of a memory plan and how people read them."""


def print_plan(told: Mapping[str, Any], console: Console) -> None:
    """A memory plan: where the bytes of one card go, how far it goes, what to change."""
    asked = told["asked"]
    cards = f"{asked['tensor_parallel']} × {told['gpu']}"
    title = f"{told['model']}: {parameters(told['parameters'])}, {asked['precision']}, on {cards}"
    rows = [{"bytes of one card": name, **_sizes(told[field])} for field, name in PLANNED.items()]
    print_value(rows, title, console)
    verdict = "fits" if told["fits"] else "does not fit"
    requests = f"{asked['concurrency']} at once of {asked['context']:,} tokens"
    console.print(f"\n[bold]{verdict}[/]: {requests}", highlight=False)
    for name, value in {
        "cache of them": told["formula"],
        "cache of one token": f"{told['bytes_per_token']:,} bytes",
        "room for the cache": f"{told['cache_tokens']:,} tokens in {told['blocks']:,} blocks of {asked['block_size']}",
        "largest safe concurrency": f"{told['largest_concurrency']:,} at {asked['context']:,} tokens",
        "largest context": f"{told['largest_context']:,} tokens at {asked['concurrency']:,} at once",
    }.items():
        _line(name, value, console)
    if told["changes"]:
        changes = [
            {"change first": one["change"], **_sizes(one["saves_bytes"], "saves"), "enough": _yes(one["enough"])}
            for one in told["changes"]
        ]
        console.print()
        print_value(changes, "", console)
    for note in told["notes"]:
        console.print(f"  note: {note}", highlight=False, markup=False)


def _sizes(count: int, name: str = "bytes") -> dict[str, str]:
    return {name: f"{count:,}", "GiB": f"{count / 2**30:.2f}"}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def print_advice(told: Mapping[str, Any], console: Console) -> None:
    """What to do, in order, with reasons; then what holds and what is not known."""
    about = f"release {told['release'][:12]}" if told["release"] else "no release"
    other = "production" if told["profile"] == "sample" else "sample"
    held = f"held against the gate's {told['profile']} values (--profile {other} for the others)"
    console.print(f"[bold]{about}[/], {held}\n", highlight=False, soft_wrap=True)
    for number, step in enumerate(told["recommendations"], 1):
        console.print(f"[bold]{number}. {escape(step['do'])}[/] ({step['kind']})", highlight=False)
        for name, lines in (
            ("why", [reason["told"] for reason in step["because"]]),
            ("how", step["how"]),
            ("unless", [step["changes"]]),
        ):
            for line in lines:
                console.print(f"   {name}: {line}", highlight=False, markup=False, soft_wrap=True)
    if len(told["recommendations"]) > 1:
        console.print(
            "\nDo the first, measure again, and ask again: what comes after it may fall away.", highlight=False
        )
    if told["holds"]:
        console.print("\n[bold]as the policy asks[/]", highlight=False)
    for line in told["holds"]:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    if told["missing"]:
        console.print("\n[bold]not known[/]", highlight=False)
    for one in told["missing"]:
        line = f"  {one['fact']}: {one['matters']}. To measure: {one['measure']}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_break_even(told: Mapping[str, Any], console: Console) -> None:
    """Both ways beside each other, and where they cross."""
    spec, machines = told["spec"], told["machines"]
    build, buy = told["build_per_month"], told["buy_per_month"]
    verdict = "build" if told["build"] else "buy"
    console.print(f"[bold]{verdict}[/], at {spec['tokens_per_month']:,.0f} tokens a month", highlight=False)
    rows = [
        {"way": f"build: {machines} machine{'s' if machines > 1 else ''}", "a month": f"{build:,.2f}",
         "a million tokens": f"{told['build_per_million']:,.4g}"},
        {"way": "buy: API", "a month": f"{buy:,.2f}", "a million tokens": f"{told['buy_per_million']:,.4g}"},
    ]  # fmt: skip
    print_value(rows, "", console)
    first, last = told["break_even_tokens"], told["always_from_tokens"]
    for name, value in {
        "break-even": "at no volume" if first is None else f"{first:,.0f} tokens a month",
        "API bill there": "–" if first is None else f"{told['bill_at_break_even']:,.2f} a month",
        "never dearer from": "–" if last is None else f"{last:,.0f} tokens a month",
        "one machine serves": f"{told['tokens_per_machine']:,.0f} tokens a month, {spec['utilization']:.0%} utilized",
        "this volume uses": f"{told['utilized']:.1%} of the machines",
        "machine pays from": f"{told['least_utilization']:.1%} utilization, fixed costs left out",
    }.items():
        _line(name, value, console)


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
    if result.get("sweep"):
        print_value([_sweep_row(row) for row in result["sweep"]], "precisions", console)
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


def _sweep_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A precision of the quantization sweep as people read it: megabytes, bounds behind the difference."""
    difference = row["difference"]
    bounds = difference and f"{difference['mean']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"
    note = row["note"].partition(":")[0]  # the reason stands below the table
    sizes, times = (row["bytes_on_disk"], row["bytes_in_memory"]), (row["p50_ms"], row["p95_ms"])
    return {
        "precision": row["precision"],
        "MB disk, memory": None if None in sizes else ", ".join(f"{size / 1e6:.2f}" for size in sizes),
        "tokens/s": row["tokens_per_s"],
        "P50, P95 ms": None if None in times else ", ".join(f"{time:.0f}" for time in times),
        "at once": row["safe_concurrency"],
        "quality": row["quality"],
        "to bf16": bounds,
        "decision": ", ".join(word for word in (row["decision"], note) if word),
    }


def _line(name: str, value: object, console: Console) -> None:
    console.print(f"[bold]{escape(name)}[/]: {escape(str(value))}", highlight=False, soft_wrap=True)
