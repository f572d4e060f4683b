"""Peak memory of one ingest in a process of its own: `python -m evaluation.benches.ingesting.peak HOME TOKENIZER`."""

import sys
from pathlib import Path

from evaluation.benches.ingesting.chain import Chain
from indexes.chunkers.spec import ChunkSpec


def peak_mib() -> float:
    """Most memory that this process has held at once, MiB. Of this program alone: getrusage counts its starter too."""
    (line,) = (line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Ingest the documents below HOME and print the peak."""
    home, tokenizer = sys.argv[1:]
    Chain(Path(home), Path(tokenizer), ChunkSpec()).ingest()
    sys.stdout.write(f"{peak_mib()}\n")


if __name__ == "__main__":
    main()
