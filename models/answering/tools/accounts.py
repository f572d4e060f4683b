"""Tool: the balance of an account, for callers that may see it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field
from sqlalchemy import Engine, column, create_engine, select, table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from infra.errors import PolicyError, TryAgainError
from models.answering.tools.port import Arguments, Result, Tool, ToolCaller
from models.answering.tools.spec import AccountsSpec

ASKED = re.compile(r"\b(?:balance|owe|owed|owing|outstanding|in\s+credit|due|how\s+much)\b", re.IGNORECASE)
UNKNOWN = "There is no such account among those that you may see."


class Account(Arguments):
    """Arguments of account_balance."""

    account: Annotated[str, Field(min_length=4, max_length=34)]
    """The account's number."""


class AccountBalance(Tool):
    """Looks up one row. A caller sees the accounts of its tenant under whose label, or own `account:NUMBER`, it is."""

    name = "account_balance"
    description = "Looks up the balance of one account."
    arguments = Account
    is_destructive = False

    def __init__(self, spec: AccountsSpec, root: Path) -> None:
        """`root` is the policy file's folder. Raises PolicyError for an address that cannot be opened."""
        self._spec = spec
        self._number = re.compile(spec.number)
        self._engine = open_accounts(spec.url, root)
        names = ("number", "tenant", "label", "balance_cents", "due")
        self._table = table(spec.table, *(column(name) for name in names))

    def values(self, words: str) -> Mapping[str, tuple[str, ...]]:
        """See Tool."""
        if not ASKED.search(words):
            return {}
        found = tuple(dict.fromkeys(match.group(0) for match in self._number.finditer(words)))
        return {"account": found} if found else {}

    def asks(self, arguments: Arguments) -> str:
        """See Tool."""
        raise NotImplementedError("a look-up changes nothing: nobody confirms it")

    def run(self, arguments: Arguments, caller: ToolCaller, key: str) -> Result:
        """See Tool. An account that is not there and one that the caller may not see read the same."""
        assert isinstance(arguments, Account)
        number, own = arguments.account, self._table.c
        query = select(own.label, own.balance_cents, own.due).where(own.number == number, own.tenant == caller.tenant)
        try:
            with self._engine.connect() as connection:
                row = connection.execute(query).first()
        except SQLAlchemyError as error:
            raise TryAgainError(f"accounts: {type(error).__name__}") from error
        if row is None:
            return Result(UNKNOWN, "refused", "no such account")
        if not caller.access & {row.label, f"account:{number}"}:
            return Result(UNKNOWN, "refused", "the caller may not see it")
        amount = f"{abs(row.balance_cents) / 100:.2f} {self._spec.currency}"
        if row.balance_cents > 0:
            return Result(f"The account ending in {number[-3:]} owes {amount}, due on {row.due}.")
        return Result(f"The account ending in {number[-3:]} owes nothing; it is {amount} in credit.")


def open_accounts(url: str, root: Path) -> Engine:
    """The database of the accounts, read only; SQLite files lie below `root`. Raises: PolicyError where none is."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, ImportError) as error:
        raise PolicyError(f"tools.accounts.url: cannot be opened: {type(error).__name__}") from error
    path = (root / (parsed.database or "")).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise PolicyError(
            f"tools.accounts.url: {parsed.database} is no file beside the policy file; copy it there, or leave out "
            "tools.accounts"
        )
    return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
