"""Manners of the training libraries: progress bars and notices go, errors stay; one compute thread."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO

from infra.settings import be_quiet

TALKATIVE = (
    "accelerate",
    "bitsandbytes",
    "compressed_tensors",
    "datasets",
    "llmcompressor",
    "peft",
    "torch.fx._symbolic_trace",
    "torch.utils._pytree",
    "torchao",
    "transformers",
    "trl",
)


UP = "\x1b[A"
"""What a bar below another one writes to move the cursor up."""


class _WithoutBars:
    """Standard error for the libraries: progress bars are dropped, everything else goes through."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if text.replace(UP, "").strip() and not text.startswith("\r") and "it/s]" not in text:
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside the block only errors of the training libraries are logged, and no progress bar is drawn.

    Enter it before the first import of the libraries: several log while they are imported.
    """
    be_quiet()
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    import datasets
    from transformers.utils import logging as transformers_logging

    quiet: tuple[Callable[[], None], ...] = (
        transformers_logging.disable_progress_bar,
        transformers_logging.set_verbosity_error,
        datasets.disable_progress_bars,
        datasets.logging.set_verbosity_error,
    )
    for call in quiet:
        call()
    try:
        with warnings.catch_warnings(), redirect_stderr(_WithoutBars(sys.stderr)):  # type: ignore[type-var]
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def one_thread() -> Iterator[None]:
    """One compute thread: sums are taken in one order, and shared cores do not stall each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
