"""What the gateway's tools work on, and how a call is decided and confirmed."""

from typing import Annotated, Literal

from pydantic import Field

from infra.settings import Spec

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class AccountsSpec(Spec):
    """The table that account balances are looked up in."""

    url: str
    """SQLAlchemy URL; a SQLite file is relative to the policy file and only read."""
    table: Name = "accounts"
    """Its columns: number, tenant, label, balance_cents, due."""
    number: str = Field(min_length=1)
    """Regular expression of an account number."""
    currency: str = Field(min_length=1)
    """What the balance is in."""


class ToolsSpec(Spec):
    """Tools of the gateway; a release says in `answering.tools` which of them it may call."""

    accounts: AccountsSpec | None = None
    """For the tool account_balance; null = there is none."""
    decide: Literal["words", "model"] = "model"
    """Once a user's words fit a tool: call it, the model only fills in what is open; or ask the model whether to."""
    max_tokens: int = Field(ge=8, le=1024)
    """Most tokens of a call."""
    confirm_s: int = Field(ge=10, le=86_400)
    """How long a proposed call waits for its confirmation, in seconds."""
