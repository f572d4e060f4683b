"""The tool port: what a release may do for a user besides answering, and who asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict


class Arguments(BaseModel):
    """Base of every tool's typed arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCaller(NamedTuple):
    """Who asks: digest of the key, tenant and access labels. A tool shows nothing that these may not see."""

    digest: str
    tenant: str
    access: frozenset[str]


class Result(NamedTuple):
    """What a tool says to the user, and whether it did what was asked; `detail` is why it refused, for the records."""

    text: str
    outcome: Literal["done", "refused"] = "done"
    detail: str = ""


class Tool(Protocol):
    """One thing that can be done. It opens no address of its own: `indexes.loaders.fetch` checks where one leads."""

    name: str
    description: str
    arguments: type[Arguments]
    is_destructive: bool
    """It changes something: the user confirms it first."""

    def values(self, words: str) -> Mapping[str, tuple[str, ...]]:
        """What in the user's words could be the value of each argument, all verbatim.

        Empty where the words do not ask for this tool. Called for every question: microseconds.
        """
        ...

    def asks(self, arguments: Arguments) -> str:
        """What the user is asked to confirm."""
        ...

    def run(self, arguments: Arguments, caller: ToolCaller, key: str) -> Result:
        """Do it; the same `key` again changes nothing and says the same. Called in a thread. Raises: SluiceError."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool that the user's words may ask for, and the values that its arguments can have."""

    tool: Tool
    values: Mapping[str, tuple[str, ...]]

    @property
    def calls(self) -> int:
        """How many different calls can be made of it."""
        number = 1
        for values in self.values.values():
            number *= len(values)
        return number
