"""Which call a user's words ask for: the schema that decoding is held to, and the check of what was written."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from infra.errors import TryAgainError
from models.answering.schemas import NO_CALL, calls_schema, how_to_decline, written_call
from models.answering.tools.port import Arguments, Offer, Tool
from models.types import Message


class Chosen(NamedTuple):
    """A call that may be made: every value of it stands in the user's words."""

    tool: Tool
    arguments: Arguments


def offer_schema(offers: Sequence[Offer], may_decline: bool) -> dict[str, Any]:
    """One of the offered calls, or none: an argument is one of the values that stand in the user's words."""
    calls = [
        (
            offer.tool.name,
            {
                "type": "object",
                "properties": {name: {"enum": list(values)} for name, values in offer.values.items()},
                "required": list(offer.values),
                "additionalProperties": False,
            },
        )
        for offer in offers
    ]
    return calls_schema(calls, may_decline)


def offer_prompt(offers: Sequence[Offer], words: str, may_decline: bool) -> list[Message]:
    """What the model reads to decide: the tools and the user's own words. No passage is ever in it."""
    lines = [f"{offer.tool.name}: {offer.tool.description} ({', '.join(offer.values)})" for offer in offers]
    otherwise = how_to_decline() if may_decline else ""
    ask = f'Write the call that the user asks for: {{"name":…,"arguments":{{…}}}}.{otherwise}'
    return [Message(role="system", content="\n".join(["Tools:", *lines, ask])), Message(role="user", content=words)]


def the_only_call(offers: Sequence[Offer]) -> Chosen | None:
    """The call, where the words leave only one; None where a model has to choose."""
    if len(offers) != 1 or offers[0].calls != 1:
        return None
    return checked(
        offers[0],
        {name: values[0] for name, values in offers[0].values.items()},
        "\n".join(value for values in offers[0].values.values() for value in values),
    )


def stands_in(value: str, words: str) -> bool:
    """Whether a value stands in the words as a whole, whatever its case and white space."""
    shape = r"\s+".join(re.escape(part) for part in value.split())
    return bool(shape) and re.search(rf"(?<!\w){shape}(?!\w)", words, re.IGNORECASE) is not None


def checked(offer: Offer, written: object, words: str) -> Chosen:
    """A call with typed arguments.

    Raises: TryAgainError where an argument has the wrong type or does not stand in the user's words.
    """
    name = offer.tool.name
    try:
        arguments = offer.tool.arguments.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        raise TryAgainError(f"tool {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for field, value in arguments:
        if not stands_in(str(value), words):
            raise TryAgainError(f"tool {name}: {field}: the value does not stand in the user's words")
    return Chosen(offer.tool, arguments)


def read_choice(text: str, offers: Sequence[Offer], words: str) -> Chosen | None:
    """The call that a model wrote; None where it declines.

    Raises: TryAgainError where the text is no call of an offered tool, or the arguments are not the user's.
    """
    name, written = written_call(text)
    if name == NO_CALL:
        return None
    offer = next((one for one in offers if one.tool.name == name), None)
    if offer is None:
        raise TryAgainError("tool call: the model named a tool that was not offered")
    return checked(offer, written.get("arguments", {}), words)
