"""Settings of a test: no variable of Sluice but those that the test names, and none that outlives the test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.settings import settings


@contextmanager
def only(monkeypatch: pytest.MonkeyPatch, **values: object) -> Iterator[None]:
    """`SLUICE_<NAME>` for every value and no other inside the block; the settings are read anew at both ends.

    Commands set variables for the processes that they start: the whole environment is put back at the end.
    """
    before = dict(os.environ)
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLUICE_")]:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(f"SLUICE_{name}", str(value))
        settings.cache_clear()
        yield
    os.environ.clear()
    os.environ.update(before)
    settings.cache_clear()


needs_disk = pytest.mark.skipif(
    not settings().disk_python.is_file(),
    reason="DiskANN's environment .venv-disk is not there: run make setup",
)
