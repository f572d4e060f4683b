"""Commands of `sluice key`: who may call the gateway, what of it, and how much."""

import secrets
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from flows.console import AsJson, clean, show
from infra.errors import InputError
from infra.records import Records, key_digest
from infra.settings import settings
from models.serving.limits import Limits

commands = typer.Typer(no_args_is_help=True, help="Keys of the gateway: only their digests are kept.")


class Role(StrEnum):
    """What a key may do beside asking: an operator names releases and reads traces of its tenant."""

    USER = "user"
    OPERATOR = "operator"


def add_key(name: str, role: str, tenant: str, access: str, limits: dict[str, Any]) -> dict[str, Any]:
    """Make a key and let it in; the key itself is in what is returned and nowhere else."""
    labels = sorted({label.strip() for label in access.split(",")} - {""})
    for what, text, longest in (("name", name, 128), ("tenant", tenant, 64)):
        if not text.isprintable() or not 0 < len(text) <= longest:
            raise InputError(f"{what}: {text!r} is not a text of 1 to {longest} printable characters")
    if not labels:
        raise InputError("access: name one label at least, such as public")
    try:
        own = Limits.model_validate(limits).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    key = f"sl-{secrets.token_urlsafe(32)}"
    records = Records.open(settings().database_url)
    records.add_key(key, name, role, labels, tenant=tenant, limits=own)
    records.close()
    return {"key": key, "digest": key_digest(key)[:12], "name": name, "role": role, "tenant": tenant, "access": labels}


def list_keys() -> list[dict[str, Any]]:
    """Every key, oldest first, without the keys themselves."""
    records = Records.open(settings().database_url)
    rows = sorted(records.keys().values(), key=lambda row: (row.created, row.digest))
    records.close()
    return [
        {
            "digest": row.digest[:12],
            "name": row.name,
            "role": row.role,
            "tenant": row.tenant,
            "access": ", ".join(row.access),
            "limits": ", ".join(f"{name}={value:g}" for name, value in row.limits.items()) or "as the policy says",
        }
        for row in rows
    ]


def drop_key(prefix: str) -> dict[str, str]:
    """Shut out the one key whose digest begins like this; the gateway follows within a second."""
    records = Records.open(settings().database_url)
    found = [row for digest, row in records.keys().items() if prefix and digest.startswith(prefix.lower())]
    if len(found) != 1:
        records.close()
        raise InputError(f"digest: {len(found)} keys begin with {prefix!r}; `sluice key list` shows them")
    records.drop_key(found[0].digest)
    records.close()
    return {"dropped": found[0].digest[:12], "name": found[0].name}


@commands.command("add")
@clean
def add(
    name: Annotated[str, typer.Argument(help="Who it is for.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.USER,
    tenant: Annotated[
        str, typer.Option(help="Traces and ratings of one tenant are out of reach of others.")
    ] = "default",
    access: Annotated[str, typer.Option(help="Labels of the documents it may see, with commas.")] = "public",
    requests_per_minute: Annotated[int | None, typer.Option(help="Default: the policy's.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Default: the policy's.")] = None,
    money_per_day: Annotated[float | None, typer.Option(help="Default: the policy's.")] = None,
    json_: AsJson = False,
) -> None:
    """Make a key. It is shown this once: the records keep its digest only."""
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "money_per_day": money_per_day,
    }
    show(add_key(name, role.value, tenant, access, limits), json_, "new key, shown this once")


@commands.command("list")
@clean
def list_(json_: AsJson = False) -> None:
    """Every key, oldest first."""
    show(list_keys(), json_, "keys")


@commands.command("drop")
@clean
def drop(digest: Annotated[str, typer.Argument(help="Begin of its digest.")], json_: AsJson = False) -> None:
    """Shut a key out."""
    show(drop_key(digest), json_)
