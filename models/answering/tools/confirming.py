"""One-time ids that confirm a proposed call: how they look, and the port of what keeps them."""

import re
import secrets
from typing import Any, NamedTuple, Protocol

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that an id is no word, and no digits, so that it is no number of a person; 12 letters are 51 bits."""

CONFIRMED = re.compile(rf"\bconfirm\s+([{LETTERS}]{{4}}-[{LETTERS}]{{4}}-[{LETTERS}]{{4}})\b", re.IGNORECASE)


class Proposed(NamedTuple):
    """A call that was proposed to a caller; `result` is what it said, once it was made."""

    tool: str
    arguments: dict[str, Any]
    result: str = ""


class Proposals(Protocol):
    """Keeps proposed calls. Raises: SluiceError."""

    def propose(self, key: str, tenant: str, caller: str, tool: str, arguments: dict[str, Any], expires: float) -> None:
        """Keep a call under the digest of its id."""
        ...

    def proposed(self, key: str, caller: str) -> Proposed | None:
        """The call that this caller was proposed under this key and that has not expired."""
        ...

    def made(self, key: str, result: str) -> None:
        """Note what the call said."""
        ...


def new_id() -> str:
    """An id that nobody can guess."""
    drawn = "".join(secrets.choice(LETTERS) for _ in range(12))
    return f"{drawn[:4]}-{drawn[4:8]}-{drawn[8:]}"


def confirmed_id(words: str) -> str:
    """The id that the user's words confirm, or an empty text."""
    found = CONFIRMED.search(words)
    return found.group(1).upper() if found else ""
