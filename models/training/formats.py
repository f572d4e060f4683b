"""The four formats of training data: which one a row has, told by its fields, and what is wrong with it.

| format | fields | known from |
|---|---|---|
| instruction | instruction (or question, query, prompt), perhaps input, output (or response, answer) | Alpaca, Dolly |
| chat | messages of role and content, or conversations of from and value | OpenAI, ShareGPT |
| preference | prompt, chosen, rejected: texts, or lists of messages | trl, UltraFeedback |
| completion | prompt and completion, or text alone | trl |
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from models.training.rows import PreferenceRow, TrainingRow
from models.types import Message

Format = Literal["instruction", "chat", "preference", "completion"]
FORMATS: tuple[Format, ...] = ("instruction", "chat", "preference", "completion")
Fields = Mapping[str, Any]
Row = TrainingRow | PreferenceRow

ASKED = ("instruction", "question", "query", "prompt")
CONTEXT = ("input", "context")
ANSWERED = ("output", "response", "answer")
CHATS = ("messages", "conversations", "conversation")
DOCUMENT = "document"
"""Field with the id of the document that a row was made from, where somebody has written it."""

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""Names of roles → ours."""


class RowError(ValueError):
    """Why a row cannot be learnt from, in words for its author."""


def format_of(fields: Fields) -> Format | None:
    """The format that a row's fields speak of, even where one is missing; None for fields of no format."""
    has = {name for name, value in fields.items() if value is not None}
    if has & {"chosen", "rejected"}:
        return "preference"
    if has & set(CHATS):
        return "chat"
    if "instruction" in has or (has & set(ASKED) and has & set(ANSWERED)):
        return "instruction"
    return "completion" if has & {"completion", "text", "prompt"} else None


def row_of(fields: Fields, wanted: Format, source: str) -> Row:
    """A row of format `wanted`. Raises RowError with the reason."""
    return _READERS[wanted](fields, source)


def document_of(fields: Fields) -> str:
    """The document that a row names as its source, or nothing."""
    named = fields.get(DOCUMENT)
    return named if isinstance(named, str) and _is_whole(named) else ""


def _is_whole(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON may hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"`{name}` is no text but {_kind(value)}")
    if not _is_whole(value):
        raise RowError(f"`{name}` holds bytes or half characters that are no UTF-8")
    return value


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def _first(fields: Fields, names: tuple[str, ...]) -> str | None:
    """The first of these fields that has a value."""
    return next((name for name in names if fields.get(name) is not None), None)


def _text(fields: Fields, names: tuple[str, ...]) -> str:
    """The text of the first of these fields that is there: it has to be, and not empty."""
    name = _first(fields, names)
    if name is None:
        raise RowError(f"the field `{names[0]}` is missing")
    text = _checked(fields[name], name)
    if not text.strip():
        raise RowError(f"`{name}` is empty")
    return text


def _maybe(fields: Fields, names: tuple[str, ...]) -> str:
    """The same for a field that may be missing or empty."""
    name = _first(fields, names)
    return _checked(fields[name], name) if name else ""


def _opened(fields: Fields, *messages: Message) -> tuple[Message, ...]:
    """The messages, after the system message that a field of its own may hold."""
    system = _maybe(fields, ("system",))
    begins = bool(messages) and messages[0].role == "system"
    return messages if begins or not system.strip() else (Message(role="system", content=system), *messages)


def _instruction(fields: Fields, source: str) -> TrainingRow:
    asked, context = _text(fields, ASKED), _maybe(fields, CONTEXT)
    user = f"{asked}\n\n{context}" if context.strip() else asked
    answer = Message(role="assistant", content=_text(fields, ANSWERED))
    return TrainingRow(messages=_opened(fields, Message(role="user", content=user), answer), source=source)


def _completion(fields: Fields, source: str) -> TrainingRow:
    """With a prompt it is a question and its answer, as the engine will be asked; a text alone is learnt whole."""
    if fields.get("prompt") is None and fields.get("completion") is None:
        return TrainingRow(messages=(Message(role="assistant", content=_text(fields, ("text",))),), source=source)
    asked = Message(role="user", content=_text(fields, ("prompt",)))
    answer = Message(role="assistant", content=_text(fields, ("completion",)))
    return TrainingRow(messages=_opened(fields, asked, answer), source=source)


def _chat(fields: Fields, source: str) -> TrainingRow:
    name = _first(fields, CHATS)
    if name is None:
        raise RowError("the field `messages` is missing")
    messages = _opened(fields, *_messages(fields[name], name))
    _check_order(messages, name, "assistant")
    return TrainingRow(messages=messages, source=source)


def _preference(fields: Fields, source: str) -> PreferenceRow:
    """Texts, or lists of messages that begin alike and end in the two answers."""
    (before, chosen), (other, rejected) = _side(fields, "chosen"), _side(fields, "rejected")
    if before != other:
        raise RowError("`chosen` and `rejected` differ before their last answer")
    prompt = _opened(fields, *_prompt(fields, before))
    _check_order(prompt, "prompt", "user")
    if chosen.strip() == rejected.strip():
        raise RowError("`chosen` and `rejected` are the same")
    return PreferenceRow(prompt=prompt, chosen=chosen, rejected=rejected, source=source)


def _side(fields: Fields, name: str) -> tuple[list[Message], str]:
    """What stands before an answer of a pair, and the answer."""
    if not isinstance(fields.get(name), list):
        return [], _text(fields, (name,))
    messages = _messages(fields[name], name)
    if messages[-1].role != "assistant":
        raise RowError(f"`{name}` ends with a message of {messages[-1].role}, not with an answer")
    return messages[:-1], messages[-1].content


def _prompt(fields: Fields, before: list[Message]) -> list[Message]:
    """The prompt of a pair. A prompt that is a text only repeats the question where the lists have it themselves."""
    name = _first(fields, ASKED)
    if name is not None and isinstance(fields[name], list):
        return [*_messages(fields[name], name), *before]
    return before or [Message(role="user", content=_text(fields, ("prompt", *ASKED)))]


def _messages(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list):
        raise RowError(f"`{name}` is no list of messages but {_kind(value)}")
    if not value:
        raise RowError(f"`{name}` has no message")
    return [_message(item, f"{name}[{place}]") for place, item in enumerate(value)]


def _message(item: Any, place: str) -> Message:
    """One message, under either set of names. The place counts from 0, as in the file."""
    if not isinstance(item, dict):
        raise RowError(f"`{place}` is no message but {_kind(item)}")
    said = _checked(item.get("role", item.get("from")), f"{place}.role").strip().casefold()
    if said not in ROLES:
        raise RowError(f"`{place}.role` is {said[:40]!r}; known are {', '.join(ROLES)}")
    if item.get("weight") == 0:
        raise RowError(f"`{place}` has weight 0: every answer of a chat is learnt; leave the row out or split it")
    content = item.get("content", item.get("value"))
    text = _parts(content, place) if isinstance(content, list) else _checked(content, f"{place}.content")
    if not text.strip():
        raise RowError(f"`{place}` is an empty message")
    return Message(role=ROLES[said], content=text)


def _parts(content: list[Any], place: str) -> str:
    """A content of several parts as one text. Raises RowError for a part that is no text."""
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise RowError(f"`{place}.content[{number}]` is no text: pictures and calls cannot be learnt")
        texts.append(_checked(part.get("text"), f"{place}.content[{number}].text"))
    return "\n".join(texts)


def _check_order(messages: tuple[Message, ...], name: str, last: Literal["user", "assistant"]) -> None:
    """Raise RowError unless user and assistant take turns, after at most one system message, and `last` ends."""
    turns = messages[1:] if messages[0].role == "system" else messages
    if not turns:
        raise RowError(f"`{name}` has nothing but a system message")
    for number, message in enumerate(turns):
        wanted = "assistant" if number % 2 else "user"
        if message.role != wanted:
            place = number + len(messages) - len(turns)
            raise RowError(f"wrong order of roles: message {place} of `{name}` is of {message.role}, not {wanted}")
    if turns[-1].role != last:
        raise RowError(f"`{name}` ends with a message of {turns[-1].role}, not of {last}")


_READERS: dict[Format, Callable[[Fields, str], Row]] = {
    "instruction": _instruction,
    "chat": _chat,
    "preference": _preference,
    "completion": _completion,
}
