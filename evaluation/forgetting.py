"""Whether a training made the model forget: general reading tasks before and after, compared task by task."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from evaluation.intervals import difference_interval
from evaluation.types import Interval
from infra.settings import Spec
from models.starter import reading
from models.training.quiet import one_thread, quiet_libraries
from models.types import Message

FIRST_SEED = 3 * 10**15
"""Seeds from here on are in no training set and in no other measure."""
MAX_TOKENS = 48
CONTEXT = 4096
AT_ONCE = 24


class ForgettingSpec(Spec):
    """Section `forgetting` of the policy file: how much general reading a training may cost."""

    tasks: int = Field(ge=10, le=100_000)
    """Reading tasks about invented facts, answered before and after."""
    margin: float = Field(gt=0, lt=1)
    """Fall of the share answered exactly that is tolerated; a fall shown to be larger fails the run."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """One-sided error rate of that."""


class Forgetting(BaseModel):
    """Shares of tasks answered exactly, and their difference."""

    model_config = ConfigDict(frozen=True)

    before: float
    after: float
    difference: Interval
    """After minus before, two-sided at 1 − 2α: either end is a one-sided bound at α."""
    forgot: list[int]
    """Numbers of the tasks that were right before and are wrong now."""

    def objection(self, spec: ForgettingSpec) -> str | None:
        """What a training that forgot too much is refused with, or None."""
        if self.difference.high >= -spec.margin:
            return None
        return (
            f"forgetting: general reading fell from {self.before:.3f} to {self.after:.3f}; the difference of"
            f" {self.difference.mean:+.3f} is at most {self.difference.high:+.3f}, the margin is −{spec.margin:.3f}."
            " Lower training.learning_rate or training.epochs, or mix general rows into the training data;"
            " nothing was registered"
        )


def general_tasks(count: int) -> list[reading.Example]:
    """One-question tasks over one to five passages, the same for the same count."""
    return [reading.example(FIRST_SEED + number, turns=1) for number in range(count)]


def check_forgetting(base_folder: Path, tuned_folder: Path, adapter: Path | None, spec: ForgettingSpec) -> Forgetting:
    """Greedy answers of the base and of the tuned model (with a prefix-tuning `adapter`), exact match.

    The difference is paired by task; its interval is Tango's (evaluation/intervals.py).
    """
    tasks = general_tasks(spec.tasks)
    before, after = _right(base_folder, None, tasks), _right(tuned_folder, adapter, tasks)
    return compared(before, after, spec)


def compared(before: Sequence[bool], after: Sequence[bool], spec: ForgettingSpec) -> Forgetting:
    """The comparison of task-by-task results."""
    old, new = np.array(before, dtype=np.float64), np.array(after, dtype=np.float64)
    difference = difference_interval(new - old, np.arange(len(old)), 1 - 2 * spec.alpha)
    return Forgetting(
        before=float(old.mean()),
        after=float(new.mean()),
        difference=difference,
        forgot=[int(number) for number in np.flatnonzero(old > new)],
    )


def _right(folder: Path, adapter: Path | None, tasks: Sequence[reading.Example]) -> list[bool]:
    """Whether each task was answered exactly, citation included."""
    from models.serving.generation import Generator, replies

    chats = [[Message.model_validate(message) for message in task.messages()[:2]] for task in tasks]
    with quiet_libraries(), one_thread():
        generator = Generator(folder, "base", dtype="bfloat16", max_model_len=CONTEXT, max_batch=AT_ONCE)
        try:
            if adapter is not None:
                generator.load_adapter("tuned", adapter)
            answers = replies(generator, "tuned" if adapter is not None else "base", chats, MAX_TOKENS)
        finally:
            generator.close()
    return [answer == task.turns[0].reply for answer, task in zip(answers, tasks, strict=True)]
