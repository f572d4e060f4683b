"""The training libraries' progress bars are dropped; what they have to say stays."""

import sys

import pytest

from models.training.quiet import quiet_libraries


def test_bars_are_dropped_and_words_stay(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_libraries():
        for text in ("\r 10%|█", "\x1b[A", "\x1b[A\x1b[A", "\n", "12%| 3/25 [00:01, 3.1it/s]", "no kernel for this\n"):
            sys.stderr.write(text)
    assert capsys.readouterr().err == "no kernel for this\n"
