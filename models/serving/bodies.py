"""What the gateway answers, as models of its OpenAPI page; tests hold the bodies that are sent against them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model

from infra.tables import Trace
from models.types import Citation


class Body(BaseModel):
    """A body that the gateway sends: it has these fields and no others."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ErrorDetail(Body):
    """What went wrong, in OpenAI's form."""

    message: str
    """One sentence for a person."""
    type: str
    """The class of the error, as OpenAI names it."""
    param: str | None
    """The field that was wrong."""
    code: str
    """What a program goes by."""


class ErrorBody(Body):
    """Every error of the gateway."""

    error: ErrorDetail


class AnswerBody(Body):
    """A grounded answer."""

    answer: str
    citations: list[Citation]
    """The passages that the answer names as its sources."""
    confidence: float | None
    """How far the answer stands on its sources: the share of the question's words in the cited passages times that of
    the answer's, 0 to 1. No probability of being right; null where the text is not from passages."""
    refused: bool
    """No answer could be given from what the caller may see, or a guard held it back: `answer` says so."""
    release: str
    """Digest of the release that answered."""
    trace_id: str
    """Names the answer in POST /v1/feedback."""
    latency_ms: float
    arm: str
    """production; during a canary, baseline or canary."""
    degraded: bool
    """A part failed and the fallback text was given."""


class PromptDetails(Body):
    """Prompt tokens apart."""

    cached_tokens: int


class Usage(Body):
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ChatReply(BaseModel):
    """The assistant's message. With tools it has `tool_calls` as OpenAI writes them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    role: Literal["assistant"]
    content: str | None
    """The answer with the numbers of its sources."""


class Choice(BaseModel):
    """The one choice of a chat completion."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    index: Literal[0]
    message: ChatReply
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    """content_filter: a guard ended it."""


class ChatBody(BaseModel):
    """OpenAI's chat completion, with release, trace and sources as further fields."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    release: str
    trace_id: str
    citations: list[Citation]


class Model(Body):
    """A model that can be named."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsBody(Body):
    """The models of GET /v1/models."""

    object: Literal["list"]
    data: list[Model]


class FeedbackBody(Body):
    """A rating was stored."""

    trace_id: str
    stored: Literal[True]


class HealthBody(Body):
    """The process runs."""

    status: Literal["ok"]


class ReadyBody(Body):
    """Whether the live release can answer."""

    ready: bool
    release: str | None = None
    """Digest of the release that was looked at."""
    loaded: list[str] = []
    """Digests of the releases that can answer now."""
    reason: str | None = None
    """Why it cannot."""


def _trace_body() -> type[BaseModel]:
    """A row of the records as GET /v1/traces/{trace_id} gives it: its columns, whatever they are."""
    fields: dict[str, Any] = {}
    for column in Trace.__table__.columns:
        kind: Any = list[Any] if column.type.python_type is dict else column.type.python_type
        fields[column.key] = (kind | None if column.nullable else kind, ...)
    return create_model("TraceBody", __config__=ConfigDict(extra="forbid"), __doc__=_TRACE, **fields)


_TRACE = "Everything that was recorded of one request, personal data redacted."
TraceBody = _trace_body()
