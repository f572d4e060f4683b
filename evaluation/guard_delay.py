"""What the output guards cost, and how long they make a stream wait."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from evaluation.benches import BenchRow
from evaluation.guard_report import tail_rows
from models.answering.guards.grounding import grounded_share
from models.answering.guards.guardrails import Guards
from models.answering.guards.leaks import PromptWatch, SystemPrompt, TokenWatch
from models.answering.guards.personal_watch import Waiting, personal_watch
from models.answering.guards.seen import Seen
from models.answering.guards.stream import StreamGuard
from models.answering.guards.toxicity import toxicity_watch
from models.answering.guards.watch import Watch
from models.answering.schemas import violation
from models.prompts import DEFAULT, Shown

WORDS_PER_S = 50.0
"""Pace of the model in the rows about delay."""
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


class _Clock:
    """A clock that goes on by the model's pace and by the time that really passed."""

    def __init__(self) -> None:
        self._written = 0.0

    def __call__(self) -> float:
        return self._written + time.perf_counter()

    def write(self) -> None:
        """Let the time of one word pass."""
        self._written += 1 / WORDS_PER_S


def output_rows(guards: Guards, texts: Sequence[str]) -> list[BenchRow]:
    """Milliseconds of each output guard for one text as a stream of words, p50 and p99, and what a stream waits.

    The delay is the time from a word's arrival until it leaves, at `WORDS_PER_S`; nothing waits for a network.
    """
    waiting = Waiting(guards.policy.personal_patterns)
    system = SystemPrompt(DEFAULT.system)
    most = guards.policy.output.system_prompt_words or 6
    watches: dict[str, Callable[[], Watch]] = {
        "personal data": lambda: personal_watch(guards.personal, waiting),
        "planted tokens": lambda: TokenWatch(("xkvbtrpmqzwd",)),
        "system prompt": lambda: PromptWatch(system, most),
        "toxicity": toxicity_watch,
    }
    steps: dict[str, Callable[[str], object]] = {name: partial(_watched, made) for name, made in watches.items()}
    steps["groundedness"] = lambda text: grounded_share(f"{text} [1]", [Shown(text)])
    steps["JSON schema"] = lambda text: violation({"answer": text}, SCHEMA)
    rows = []
    for name, step in steps.items():
        rows += tail_rows(f"output, {name}", [_ms(step, text) for text in texts], "ms")
    streamed = [_stream(guards, text) for text in texts]
    rows += tail_rows("output, all guards of a stream", [guard.busy_ms for guard in streamed], "ms")
    rows += tail_rows(
        f"added to a stream of {WORDS_PER_S:g} words/s",
        [delay for guard in streamed for delay in guard.delays_ms],
        "ms",
    )
    return [*rows, *tail_rows("held of a stream at most", [guard.most_held for guard in streamed], "characters")]


def _watched(made: Callable[[], Watch], text: str) -> None:
    """One text, word by word, before one guard."""
    watch, seen = made(), Seen()
    for word in _words(text):
        seen.add(word)
        watch.look(seen, ended=False)
    watch.look(seen, ended=True)


def _stream(guards: Guards, text: str) -> StreamGuard:
    """One text through all guards at the model's pace."""
    clock = _Clock()
    guard = guards.output.plain(DEFAULT.refusal, system=DEFAULT.system, secrets=("xkvbtrpmqzwd",), clock=clock)
    for word in _words(text):
        clock.write()
        guard.push(word)
    guard.end()
    return guard


def _words(text: str) -> list[str]:
    return [f"{word} " for word in text.split()]


def _ms(step: Callable[[str], object], text: str) -> float:
    begin = time.perf_counter()
    step(text)
    return 1000 * (time.perf_counter() - begin)
