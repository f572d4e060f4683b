"""What every command of `sluice` shares: the consoles, --json, errors as one line and an exit code."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape

from flows.printing import print_json, print_value
from infra.errors import SluiceError

P = ParamSpec("P")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
out = Console()
err = Console(stderr=True)


def complain(message: str) -> None:
    """An error, in one line on standard error."""
    err.print(f"[bold red]sluice:[/] {escape(message)}", highlight=False, soft_wrap=True)


def clean(function: Callable[P, None]) -> Callable[P, None]:
    """Errors that Sluice raises on purpose become one line and their exit code; with --json an object as well."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except SluiceError as error:
            complain(str(error))
            if kwargs.get("json_"):
                print_json({"error": str(error)})
            sys.exit(error.exit_code)

    return call


def show(value: Any, as_json: bool, title: str = "") -> None:
    """A value as JSON, or as a table for people."""
    if as_json:
        print_json(value)
    else:
        print_value(value, title, out)
