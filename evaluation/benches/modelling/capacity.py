"""Script for the engine's environment: starts vLLM on each asked configuration, so that it logs its cache size.

Reads a JSON list from standard input: `name` and `arguments` of `LLM`. vLLM is imported once; every engine is a forked
child, so that none finds what another left. What vLLM logs follows the line `== NAME`.
"""

import json
import multiprocessing
import sys
from typing import Any


def start(arguments: dict[str, Any]) -> None:
    """One engine, thrown away with its process."""
    from vllm import LLM

    LLM(**arguments)


def main() -> None:
    """Start one after the other."""
    from vllm import LLM  # noqa: F401  # before the forks (`import vllm` loads next to nothing): seconds for each

    context = multiprocessing.get_context("fork")
    for asked in json.load(sys.stdin):
        print(f"== {asked['name']}", flush=True)  # noqa: T201  # the script's output
        child = context.Process(target=start, args=(asked["arguments"],))
        child.start()
        child.join()


if __name__ == "__main__":
    main()
