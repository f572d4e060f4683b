"""One-time ids that confirm a proposed call: how they look, and the port of what keeps them."""

import re
import secrets
from typing import Any, Protocol

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that an id is no word, and no digits, so that it is no number of a person; 12 letters are 51 bits."""

CONFIRMED = re.compile(rf"\bconfirm\s+([{LETTERS}]{{4}}-[{LETTERS}]{{4}}-[{LETTERS}]{{4}})\b", re.IGNORECASE)


class Proposed(Protocol):
    """A call that was proposed; `result` is what it said, once it was made."""

    @property
    def tool(self) -> str: ...

    @property
    def arguments(self) -> dict[str, Any]: ...

    @property
    def result(self) -> str: ...


class Proposals(Protocol):
    """Keeps proposed calls (`infra.actions`). Raises: SluiceError."""

    def propose(self, key: str, tenant: str, caller: str, tool: str, arguments: dict[str, Any], expires: float) -> None:
        """Keep a call under the digest of its id."""
        ...

    def proposal(self, key: str, caller: str) -> Proposed | None:
        """The call that this caller was proposed under this key and that has not expired."""
        ...

    def confirm(self, key: str, result: str) -> None:
        """Note what the confirmed call said."""
        ...


def new_id() -> str:
    """An id that nobody can guess."""
    drawn = "".join(secrets.choice(LETTERS) for _ in range(12))
    return f"{drawn[:4]}-{drawn[4:8]}-{drawn[8:]}"


def confirmed_id(words: str) -> str:
    """The id that the user's words confirm, or an empty text."""
    found = CONFIRMED.search(words)
    return found.group(1).upper() if found else ""
