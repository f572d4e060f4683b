"""The tools that a policy names, put together: which exist, over what they work."""

from pathlib import Path
from typing import Protocol

from models.answering.tools.accounts import AccountBalance
from models.answering.tools.confirming import Proposals
from models.answering.tools.port import Tool
from models.answering.tools.spec import ToolsSpec
from models.answering.tools.tickets import OpenTicket, TicketBook
from models.answering.tools.toolbox import Toolbox


class Book(Proposals, TicketBook, Protocol):
    """What keeps proposals and tickets: the records."""


def open_tools(spec: ToolsSpec, root: Path, book: Book) -> Toolbox:
    """Every tool of the policy; `root` is its folder. Raises PolicyError for a table that cannot be opened."""
    tools: list[Tool] = [OpenTicket(book)]
    if spec.accounts is not None:
        tools.append(AccountBalance(spec.accounts, root))
    return Toolbox(tools, book, spec)
