"""Answers as server-sent events, in OpenAI's and in our own form. A stream that broke ends with an error event."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

from models.serving.asks import Begun, Outcome
from models.serving.wire import ApiError, answer_body, chat_calls, chat_text, chat_usage, sources
from models.types import Answer


class Stream(Protocol):
    """Turns the steps of one request into lines of a stream."""

    def lines(self, event: Begun | str | Outcome) -> Iterator[str]:
        """The events for one step of a request."""
        ...

    def failed(self, error: ApiError) -> str:
        """The event that ends a stream whose request broke."""
        ...


def answer_broken() -> ApiError:
    """What is told where an answer broke off behind some of its text."""
    return ApiError(502, "answer_broken", "The answer broke off; try again.")


def stream_error(answer: Answer, sent: str) -> dict[str, Any] | None:
    """The error event of an answer that was sent in part only; None where all of it was sent, or is still to be."""
    if not sent or not answer.error:
        return None
    if answer.finish_reason == "content_filter":
        error = ApiError(422, "content_filter", "The answer was stopped: what follows must not be shown.")
    else:
        error = answer_broken()
    return {"error": error.body["error"] | {"trace_id": answer.trace_id}}


class ChatStream(Stream):
    """A chat: role, text as the guards let it go, then the end with the extra fields."""

    def __init__(self, model: str, trace_id: str, include_usage: bool) -> None:
        self._usage: dict[str, Any] = {"usage": None} if include_usage else {}
        self._head = {
            "id": f"chatcmpl-{trace_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._begun = False
        self._sent = ""

    def lines(self, event: Begun | str | Outcome) -> Iterator[str]:
        """See Stream."""
        if isinstance(event, Begun):
            return
        if not self._begun:
            self._begun = True
            yield self._chunk({"role": "assistant", "content": ""})
        if isinstance(event, str):
            self._sent += event
            yield self._chunk({"content": event})
            return
        answer = event.answer
        error = stream_error(answer, self._sent)
        for number, call in enumerate(chat_calls(answer)):
            yield self._chunk({"tool_calls": [{"index": number, **call}]})
        if error is None and (rest := chat_text(answer).removeprefix(self._sent)):
            yield self._chunk({"content": rest})
        yield self._chunk({}, answer.finish_reason, **sources(answer))
        if self._usage:
            yield _event({**self._head, "choices": [], "usage": chat_usage(answer)})
        yield "data: [DONE]\n\n" if error is None else _event(error)

    def failed(self, error: ApiError) -> str:
        """See Stream."""
        return _event(error.body)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**self._head, "choices": [choice], **self._usage, **more})


class AnswerStream(Stream):
    """A grounded answer: `answer.delta` events with text, then `answer.done` with the whole of it, or `error`."""

    def __init__(self) -> None:
        self._sent = ""

    def lines(self, event: Begun | str | Outcome) -> Iterator[str]:
        """See Stream."""
        if isinstance(event, str):
            self._sent += event
            yield _event({"text": event}, "answer.delta")
        elif isinstance(event, Outcome):
            answer = event.answer
            if error := stream_error(answer, self._sent):
                yield _event(error, "error")
                return
            if rest := answer.answer.removeprefix(self._sent):
                yield _event({"text": rest}, "answer.delta")
            yield _event(answer_body(answer, event.assignment), "answer.done")

    def failed(self, error: ApiError) -> str:
        """See Stream."""
        return _event(error.body, "error")


def _event(body: dict[str, Any], name: str = "") -> str:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {orjson.dumps(body).decode()}\n\n"
