"""A process that has imported what a night needs and forks itself for each command.

A night that is killed thirty times starts thirty times, and most of a start is imports. A fork is a process like
another: it takes the lock, starts servers and dies of kill -9 by itself. As a process: a line with the arguments as a
JSON list comes in; its number, what the command prints, and `ENDED` go out.
"""

import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path

ENDED = "-- ended --"
HEAVY = ("flows.cli", "flows.nightly", "sentence_transformers", "great_expectations", "peft", "trl", "mlflow")


def prepare() -> None:
    """Import what a night imports on its way, as `sluice run` does."""
    from infra.services import prefect_environment
    from infra.settings import be_quiet, settings

    be_quiet()
    places = prefect_environment(settings())
    Path(places["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    os.environ.update(places)
    for name in HEAVY:
        import_module(name)
    assert threading.active_count() == 1, f"a fork would lack these threads: {threading.enumerate()}"


def command(arguments: list[str]) -> None:
    """Be the command: this does not return."""
    from flows import cli

    print(os.getpid(), flush=True)  # noqa: T201 - the protocol
    sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    sys.argv = ["sluice", *arguments]
    cli.main()
    sys.exit(0)


def main() -> None:
    """Fork for every line until the input ends."""
    prepare()
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            command(json.loads(line))
        os.waitpid(child, 0)
        print(ENDED, flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
