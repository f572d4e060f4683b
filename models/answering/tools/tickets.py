"""Tool: open a ticket with the user's own words as its subject, once confirmed."""

import re
from collections.abc import Mapping
from typing import Annotated, Protocol

from pydantic import Field

from models.answering.tools.port import Arguments, Result, Tool, ToolCaller

ASKED = re.compile(
    r"\b(?:open|raise|create|file|log|make|submit|start)\b[^.!?\n]{0,30}\b(?:ticket|fault\s+report|case)\b",
    re.IGNORECASE,
)
ABOUT = re.compile(r"\b(?:about|because|for|that|regarding|saying|concerning)\s+|[:;,.!?\n]\s*", re.IGNORECASE)
SUBJECT = (8, 200)
"""Shortest and longest subject, in characters."""
MOST = 6
"""Subjects that are offered."""


class Subject(Arguments):
    """Arguments of open_ticket."""

    subject: Annotated[str, Field(min_length=SUBJECT[0], max_length=SUBJECT[1])]
    """What it is about."""


class TicketBook(Protocol):
    """Where tickets are written."""

    def open_ticket(self, key: str, tenant: str, caller: str, subject: str) -> int:
        """Number of the ticket that was opened under this key, now or before."""
        ...


class OpenTicket(Tool):
    """Writes a ticket. The subject is a piece of what the user wrote."""

    name = "open_ticket"
    description = "Opens a ticket for the service team."
    arguments = Subject
    is_destructive = True

    def __init__(self, book: TicketBook) -> None:
        self._book = book

    def values(self, words: str) -> Mapping[str, tuple[str, ...]]:
        """See Tool. The words behind `about`, `because` and the like, and the other sentences."""
        asked = ASKED.search(words)
        if asked is None:
            return {}
        rest = words[asked.end() :].strip()
        about = ABOUT.match(rest)
        pieces = [rest[about.end() :] if about else rest]
        pieces += [part for part in re.split(r"[.!?\n]", words) if not ASKED.search(part)]
        trimmed = (piece.strip(" .,:;!?\"'\n") for piece in pieces)
        found = tuple(dict.fromkeys(piece for piece in trimmed if SUBJECT[0] <= len(piece) <= SUBJECT[1]))[:MOST]
        return {"subject": found} if found else {}

    def asks(self, arguments: Arguments) -> str:
        """See Tool."""
        assert isinstance(arguments, Subject)
        return f"Shall a ticket be opened: “{arguments.subject}”?"

    def run(self, arguments: Arguments, caller: ToolCaller, key: str) -> Result:
        """See Tool."""
        assert isinstance(arguments, Subject)
        number = self._book.open_ticket(key, caller.tenant, caller.digest, arguments.subject)
        return Result(f"Ticket T-{number} is open.")
