"""The order of all tests."""

import pytest

LONGEST = "tests/e2e/test_night.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes as long as half of all others begins first: one of two workers has it to itself."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
