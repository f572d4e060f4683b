"""Loads thousands of hostile files: `python -m tests.fuzz --files 5000 --seed 1`. Exit code 1 on any fault."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.folder import write_folder
from tests.fuzz.judge import Outcome, judge


def main() -> int:
    """Write the files, load them, print what came of every kind; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=5000, help="how many files are written")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other files")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        written = write_folder(root / "docs", chosen.files, chosen.seed)
        start = time.monotonic()
        outcome = judge(root, written)
        seconds = time.monotonic() - start
    sys.stdout.write("\n".join(_told(outcome, len(written), seconds)) + "\n")
    return 1 if outcome.faults else 0


def _told(outcome: Outcome, files: int, seconds: float) -> Iterator[str]:
    """The report, line by line."""
    yield f"{'kind':20} {'loaded':>8} {'refused':>8} {'by line':>8}"
    for kind in sorted({kind for kind, _ in outcome.counts}):
        cells = [outcome.counts[kind, result] for result in ("loaded", "quarantined", "lines")]
        yield f"{kind:20} {cells[0]:8} {cells[1]:8} {cells[2]:8}"
    yield f"\n{files} files in {seconds:.0f} s; the loading process grew by {outcome.growth_mb:.0f} MiB\n\nreasons"
    yield from (f"{count:6} {reason}" for reason, count in outcome.reasons.most_common())
    yield "\nslowest documents"
    yield from (f"{took:6.1f} s {path}" for took, path in outcome.slowest)
    yield f"\n{len(outcome.faults)} faults"
    yield from (f"- {fault[:400]}" for fault in outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
