"""Script: trains in a forked child for every job named on the command line, each killed by SIGKILL after its step 3.

Libraries are imported once, before the forks. Called as `killed_trainings.py BASE WORK NAME…`; see test_resuming.py.
"""

import os
import signal
import sys
from pathlib import Path

from models.training.quiet import quiet_libraries
from models.training.watching import Step
from tests.unit.test_resuming import JOBS

KILLED_AT = 3


def kill_itself(step: Step) -> None:
    """kill -9 at the step, so that nothing can be tidied up."""
    if step.step == KILLED_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def main(base: Path, work: Path, names: list[str]) -> None:
    """One child after the other; fails where one was not killed."""
    with quiet_libraries():
        import peft  # noqa: F401
        import trl.trainer.dpo_trainer
        import trl.trainer.sft_trainer  # noqa: F401
    for name in names:
        child = os.fork()
        if child == 0:
            JOBS[name](base, work / name, kill_itself)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{name} was not killed, status {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL, f"{name} was not killed, status {status}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
