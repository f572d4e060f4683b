"""Benchmarks: every module has `run(settings) -> list[BenchRow]`; results are appended to docs/benchmarks.md."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict


class BenchRow(BaseModel):
    """One measured value, beside the same measure of a peer where there is one."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    unit: str
    peer: str = ""
    """What it is compared with."""
    peer_value: float | None = None
    ratio: float | None = None
    """value / peer_value."""
    low: float | None = None
    """Lower end of the 95 % interval of the ratio, or of the value where there is no peer."""
    high: float | None = None
    """Upper end of it."""


def machine() -> str:
    """The machine in one line: processor, cores, memory, system, Python."""
    names = [line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    processor = names[0] if names else platform.machine()
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{processor}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {system}"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.is_file() else []


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def write_rows(name: str, rows: Sequence[BenchRow], path: Path) -> None:
    """Append a run's rows to the benchmark page, with its command and the machine it ran on."""
    lines = [
        f"\n## {name}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC\n",
        f"`sluice bench {name} --write` on {machine()}.\n",
    ]
    lines += [
        "| name | value | unit | peer | peer value | ratio | 95 % low | high |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.name,
            _cell(row.value),
            row.unit,
            row.peer,
            *map(_cell, (row.peer_value, row.ratio, row.low, row.high)),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as page:
        page.write("\n".join(lines) + "\n")
