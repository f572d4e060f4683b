"""What goes over the gateway's wire: request bodies, answers in OpenAI's and in our own form, errors."""

import json
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.answering.confidence import confidence
from models.serving.conversation import Conversation
from models.serving.traffic import Assignment
from models.types import Answer

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")]
"""A caller's own name for something: it may come into logs and headers, so it holds no control characters."""


class AnswerRequest(BaseModel):
    """Body of POST /v1/answers. `session` keeps a user in one arm of a canary."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    session: Name | None = None
    stream: bool = False
    """Send the answer as server-sent events while it is written."""


class FeedbackRequest(BaseModel):
    """Body of POST /v1/feedback. `simulated` is set by programs that play a user."""

    model_config = ConfigDict(extra="forbid")

    trace_id: Digest
    rating: Literal[-1, 1]
    correction: str = Field("", max_length=4000)
    reason: str = Field("", max_length=1000)
    simulated: bool = False


class StreamOptions(BaseModel):
    """OpenAI's stream options."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(Conversation):
    """Body of POST /v1/chat/completions. Grounded answers (model `sluice`) are to the user's last message, as the
    release writes them; everything else of a conversation is for `sluice-chat`."""

    model: str = "sluice"
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    user: Name | None = None


class ApiError(Exception):
    """An error as the client reads it. Its message never holds internals."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def kind(self) -> str:
        """OpenAI's name for this class of errors."""
        named = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        return named.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")


def headers(release: str, trace_id: str, cache: str = "") -> dict[str, str]:
    """Response headers that every answer carries; `cache` where it was asked."""
    return {"X-Sluice-Release": release, "X-Sluice-Trace": trace_id} | ({"X-Sluice-Cache": cache} if cache else {})


def answer_body(answer: Answer, assignment: Assignment) -> dict[str, Any]:
    """Our own form. `degraded` is set when a part failed and the fallback text was given."""
    stands = confidence(answer)
    return {
        "answer": answer.answer,
        "citations": [citation.model_dump() for citation in answer.citations],
        "confidence": None if stands is None else round(stands, 3),
        "refused": answer.refused,
        "release": answer.release,
        "trace_id": answer.trace_id,
        "latency_ms": round(answer.latency_ms, 3),
        "arm": assignment.arm,
        "degraded": bool(answer.error),
    }


def chat_text(answer: Answer) -> str:
    """The answer with the numbers of its sources, as a chat shows it."""
    marks = "".join(f"[{citation.number}]" for citation in answer.citations)
    return f"{answer.answer} {marks}" if marks else answer.answer


def chat_usage(answer: Answer) -> dict[str, Any]:
    """OpenAI's token counts."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
    }


def sources(answer: Answer) -> dict[str, Any]:
    """The extra fields of a chat."""
    return {
        "release": answer.release,
        "trace_id": answer.trace_id,
        "citations": [citation.model_dump() for citation in answer.citations],
    }


def chat_calls(answer: Answer) -> list[dict[str, Any]]:
    """Calls of the client's own tools."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for call in answer.tools
        if call.outcome == "returned"
    ]


def chat_body(answer: Answer, model: str) -> dict[str, Any]:
    """OpenAI's chat completion with `release`, `trace_id` and `citations` as extra fields."""
    calls = chat_calls(answer)
    message: dict[str, Any] = {"role": "assistant", "content": chat_text(answer), "refusal": None}
    if calls:
        message |= {"content": None, "tool_calls": calls}
    return {
        "id": f"chatcmpl-{answer.trace_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
        "usage": chat_usage(answer),
        **sources(answer),
    }
