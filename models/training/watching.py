"""What is looked at while a training runs: its figures, its health, when to stop, and which checkpoints are good."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from infra.errors import InputError
from models.training.checkpoints import seal

FIGURES = {
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "eval_loss": "validation_loss",
}
"""The trainer's names of figures → ours."""


class Step(NamedTuple):
    """The figures of an optimizer step, or of a look at the validation rows after it (then only those)."""

    step: int
    steps: int
    """Steps in all."""
    figures: dict[str, float]
    """loss (nats a token), gradient_norm, learning_rate and tokens_per_second; or validation_loss."""


Progress = Callable[[Step], None]
"""Called after each optimizer step and after each look at the validation rows."""


class Limits(Protocol):
    """Where a training is stopped: fields of the specs."""

    @property
    def gradient_bound(self) -> float: ...
    @property
    def gradient_patience(self) -> int: ...


def has_settled(losses: Sequence[float], patience: int, least: float) -> bool:
    """Whether the last `patience` of these validation losses brought no fall of more than `least`."""
    best, since = math.inf, 0
    for loss in losses:
        improved = loss < best - least
        since = 0 if improved else since + 1
        best = min(best, loss) if improved else best
    return bool(patience) and since >= patience


def validation_losses(history: Sequence[dict[str, float]]) -> list[tuple[int, float]]:
    """(step, loss) of the looks at the validation rows in a trainer's history."""
    return [(int(entry["step"]), entry["eval_loss"]) for entry in history if "eval_loss" in entry]


class Watch:
    """Watches one run: reports its figures, ends an ill or a settled one, seals its good checkpoints.

    `section` is the part of the policy file that errors name.
    """

    def __init__(
        self, progress: Progress, identity: str, limits: Limits, section: str, patience: int = 0, least: float = 0.0
    ) -> None:
        self.progress, self.identity, self.limits, self.section = progress, identity, limits, section
        self.patience, self.least = patience, least
        self.streak = 0
        """Steps in a row whose gradient was above the bound."""
        self.tokens, self.since = 0.0, time.monotonic()

    def log(self, logs: dict[str, float], state: Any, folder: Path) -> None:
        """Figures of a step or of a look at the validation rows. Raises InputError for those of an ill run."""
        self._check(logs, state.global_step, folder)
        figures = {ours: float(logs[theirs]) for theirs, ours in FIGURES.items() if theirs in logs}
        self.progress(Step(state.global_step, state.max_steps, figures | self._speed(logs)))

    def has_settled(self, state: Any) -> bool:
        """Whether the validation loss has stopped falling."""
        losses = [loss for _step, loss in validation_losses(state.log_history)]
        return has_settled(losses, self.patience, self.least)

    def seal(self, state: Any, folder: Path) -> None:
        """Seal the checkpoint of this step, unless it is of a stretch with an exploding gradient."""
        if not self.streak:
            best = state.best_model_checkpoint
            seal(folder / f"checkpoint-{state.global_step}", self.identity, [Path(best).name] if best else [])

    def _check(self, logs: dict[str, float], step: int, folder: Path) -> None:
        section, limits = self.section, self.limits
        for name in ("loss", "eval_loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise InputError(f"{section}: {name} is {logs[name]} at step {step}; {_advice(section, folder)}")
        if "loss" not in logs:
            return
        norm = float(logs.get("grad_norm", 0.0))
        self.streak = self.streak + 1 if norm > limits.gradient_bound else 0
        if self.streak >= limits.gradient_patience:
            raise InputError(
                f"{section}: the gradient's norm was above {section}.gradient_bound {limits.gradient_bound:g} for"
                f" {self.streak} steps in a row, {norm:.3g} at step {step}; {_advice(section, folder)}"
            )

    def _speed(self, logs: dict[str, float]) -> dict[str, float]:
        """Tokens a second since the step before."""
        if "loss" not in logs or "num_tokens" not in logs:
            return {}
        now = time.monotonic()
        rate = (logs["num_tokens"] - self.tokens) / max(now - self.since, 1e-9)
        self.tokens, self.since = logs["num_tokens"], now
        return {"tokens_per_second": rate}


def callback(watch: Watch) -> Any:
    """The watch as a callback of the trainer."""
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.since = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if logs and ("loss" in logs or "eval_loss" in logs):
                watch.log(logs, state, Path(args.output_dir))

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = control.should_training_stop or watch.has_settled(state)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.seal(state, Path(args.output_dir))

    return Callback()


def _advice(section: str, folder: Path) -> str:
    kept = sorted(folder.glob("checkpoint-*/sealed.json"), key=lambda path: int(path.parent.name.rpartition("-")[2]))
    told = f"the last good checkpoint is {kept[-1].parent.name} in {folder}" if kept else "there was no checkpoint yet"
    return f"lower {section}.learning_rate or look at the rows; nothing was kept of this run but its work: {told}"
