"""Script for the engine's environment: `vllm bench serve` again and again in one process, so that it imports once.

Each line on standard input is a JSON list of the command's arguments; each answer is a line `== SECONDS`, the CPU
time that the run cost this process. The `vllm` command itself asks for distribution metadata named vllm, which CPU
builds do not have: its `serve` benchmark is called here by its own parser instead.
"""

import json
import sys
import time


def main() -> None:
    """One benchmark a line, until the input ends."""
    from vllm.benchmarks.serve import add_cli_args
    from vllm.benchmarks.serve import main as serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    for line in sys.stdin:
        parser = FlexibleArgumentParser()
        add_cli_args(parser)
        begin = time.process_time()
        serve(parser.parse_args(json.loads(line)))
        print(f"\n== {time.process_time() - begin}", flush=True)  # noqa: T201  # the script's output


if __name__ == "__main__":
    main()
