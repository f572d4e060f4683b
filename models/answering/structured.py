"""Answers that have to be JSON of a schema: checked, and asked for again, with what was wrong, as often as is allowed.

An engine that constrains decoding is checked too: its text may have been cut, and not every keyword of a schema can be
held to while decoding.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from models.answering.guards.policy import Verdict
from models.answering.guards.readings import output_event
from models.answering.schemas import violation
from models.answering.trail import Trail
from models.types import Message

Write = Callable[[Sequence[Message]], Awaitable[tuple[str, Verdict]]]
"""Messages → what the model wrote, and what the guards say of it."""


def complaint(text: str, schema: dict[str, Any]) -> str:
    """What a text has against being JSON of the schema, or an empty text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"
    return violation(value, schema)


def asked_again(messages: Sequence[Message], text: str, wrong: str) -> list[Message]:
    """The conversation with the answer that does not do, and why."""
    correction = f"This is not valid for the JSON schema: {wrong}. Write the whole JSON again, and nothing else."
    return [*messages, Message(role="assistant", content=text), Message(role="user", content=correction)]


async def corrected(
    write: Write, messages: Sequence[Message], schema: dict[str, Any], retries: int, refusal: str, trail: Trail
) -> Verdict:
    """The verdict over the first answer that meets the schema; the refusal where none of `1 + retries` does.

    Every one that does not is an event of guard `schema`, which names the place in the JSON and never its value.
    """
    asked: Sequence[Message] = messages
    for left in range(retries, -1, -1):
        text, verdict = await write(asked)
        wrong = "" if verdict.blocked else complaint(text, schema)
        if not wrong:
            return verdict
        where = wrong.partition(":")[0]
        trail.events.append(output_event("schema", left == 0, f"{retries - left + 1} of {retries + 1}: {where}"))
        asked = asked_again(messages, text, wrong)
    return Verdict(answer=refusal, cited=(), refused=True, blocked=True)
