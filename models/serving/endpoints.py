"""What the gateway answers on each path, and how every error reads."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from infra.errors import InputError, SluiceError, TryAgainError
from infra.records import ApiKey
from infra.store import text_digest
from models.answering.chat import Talk
from models.serving.answerer import Answerer
from models.serving.asks import Ask, Begun, Outcome, Usage
from models.serving.bodies import AnswerBody, ChatBody, FeedbackBody, HealthBody, ModelsBody, ReadyBody, TraceBody
from models.serving.embeddings import EmbeddingBody, EmbeddingRequest, embed, embeddings_body
from models.serving.event_stream import ClientGoneError, EventStream, while_connected
from models.serving.openapi import Replies, replies
from models.serving.reading import QuestionRoute, Wishes, WishHeaders
from models.serving.response_headers import SAFE
from models.serving.streams import AnswerStream, ChatStream, Stream, answer_broken
from models.serving.wire import (
    AnswerRequest,
    ApiError,
    ChatRequest,
    FeedbackRequest,
    answer_body,
    chat_body,
    headers,
)

LOG = logging.getLogger("sluice.gateway")
MODEL = "sluice"
CHAT = "sluice-chat"
ANSWER_EVENTS = "With `stream: true`: `answer.delta` events with text, then `answer.done` with the body, or `error`."
CHAT_EVENTS = "With `stream: true`: OpenAI's chunks as `data:` lines, then `data: [DONE]`, or an error that ends them."
CLIENT_LEFT = 499
"""Nobody reads it; the number is nginx's."""
Events = AsyncGenerator[Begun | str | Outcome]


# What a request depends on is found by coroutines: the framework runs plain functions in a thread each.


async def _caller(request: Request) -> ApiKey:
    found = request.state.caller
    assert isinstance(found, ApiKey), "the entrance lets nobody in without a key"
    return found


async def _answerer(request: Request) -> Answerer:
    found = request.app.state.answerer
    assert isinstance(found, Answerer)
    return found


Caller = Annotated[ApiKey, Depends(_caller)]
Service = Annotated[Answerer, Depends(_answerer)]


async def _operator(caller: Caller) -> ApiKey:
    _only_operators(caller)
    return caller


def _only_operators(caller: ApiKey) -> None:
    if caller.role != "operator":
        raise ApiError(403, "operators_only", "This needs an operator's key.")


Operator = Annotated[ApiKey, Depends(_operator)]


class Headed:
    """What the headers of a question ask for.

    Operators may name a release, and a key that makes the canary's replay harmless. Every caller may say how long it
    waits, and send a key under which the same request is answered once, however often it is sent.
    """

    def __init__(self, caller: ApiKey, service: Answerer, usage: Usage, wishes: WishHeaders) -> None:
        if wishes.x_sluice_release or wishes.x_sluice_request_key:
            _only_operators(caller)
        if wishes.x_sluice_request_key and wishes.idempotency_key:
            raise ApiError(422, "two_keys", "Send either Idempotency-Key or X-Sluice-Request-Key.")
        self.caller = caller
        self.service = service
        self.release = wishes.x_sluice_release
        self.usage = usage
        self._request_key = wishes.x_sluice_request_key
        self._idempotency_key = wishes.idempotency_key
        longest, wanted_ms = service.spec.request_timeout_s, wishes.x_sluice_deadline_ms
        self._deadline = time.monotonic() + (longest if wanted_ms is None else min(longest, wanted_ms / 1000))

    def ask(
        self,
        question: str,
        body: BaseModel,
        *,
        session: str | None = None,
        release: str = "",
        talk: Talk | None = None,
        stream: bool = False,
    ) -> Ask:
        """The request behind a body."""
        request_key, digest = self._request_key, ""
        if self._idempotency_key:
            # The caller's digest is in both: nobody meets another's key, and nothing of a body can be guessed from it.
            own = f"{self.caller.digest}\0{self._idempotency_key}"
            request_key = text_digest(own)
            digest = text_digest(f"{own}\0{body.model_dump_json()}")
        return Ask(
            question,
            self.caller,
            session,
            release or self.release,
            request_key,
            digest,
            self._deadline,
            self.usage,
            talk,
            stream,
        )


async def _headed(request: Request, wishes: WishHeaders) -> Headed:
    usage = request.state.usage
    assert isinstance(usage, Usage), "the entrance counts every request"
    return Headed(await _caller(request), await _answerer(request), usage, wishes)


async def _chat(body: ChatRequest, request: Request, wishes: Wishes) -> Response:
    """POST /v1/chat/completions: an answer in OpenAI's form, streamed or not."""
    headed = await _headed(request, wishes)
    if not body.question.strip():
        raise ApiError(422, "no_question", "The last user message is the question; there is none.", param="messages")
    release, talk = "", None
    if body.model == CHAT:
        try:
            talk = body.talk()
        except InputError as error:
            raise ApiError(422, "invalid_request", str(error), param=str(error).partition(":")[0]) from error
    elif body.model != MODEL:
        release = await _named_release(headed, body.model, f"The models are {MODEL!r} and {CHAT!r}.")
    ask = headed.ask(body.question, body, session=body.user, release=release, talk=talk, stream=body.stream)
    if not body.stream:
        outcome = await _waited(request, headed.service.ask(ask))
        answer = outcome.answer
        return _json(chat_body(answer, body.model), headers(answer.release, answer.trace_id, outcome.cache))
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return await _streamed(
        request, headed.service.stream(ask), lambda trace_id: ChatStream(body.model, trace_id, include_usage)
    )


async def _named_release(headed: Headed, name: str, otherwise: str) -> str:
    """The served release that an operator names as a model. Raises ApiError for any other name."""
    if headed.caller.role != "operator" or name not in (await headed.service.routing.get()).placements:
        raise ApiError(404, "model_not_found", otherwise, param="model")
    return name


def _json(body: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)


async def _waited(request: Request, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """A whole answer for a client that waits for it: the work ends when it leaves."""
    async with while_connected(request.receive):
        return await work
    raise AssertionError("returned or raised")


async def _streamed(request: Request, events: Events, form: Callable[[str], Stream]) -> Response:
    """Server-sent events. What fails before the first text is an HTTP error; later, an error event ends the stream."""
    try:
        async with while_connected(request.receive):
            first = await anext(events)
            begun = Begun(first.assignment, first.answer.trace_id, first.cache) if isinstance(first, Outcome) else first
            if isinstance(first, Begun):
                first = await anext(events)
    except BaseException:
        await events.aclose()
        raise
    assert isinstance(begun, Begun), "a stream begins with who answers"
    named = headers(begun.assignment.release, begun.trace_id, begun.cache)
    return EventStream(_lines(first, events, form(begun.trace_id)), named)


async def _lines(first: Begun | str | Outcome, events: Events, wire: Stream) -> AsyncGenerator[str]:
    async with aclosing(events):
        try:
            yield "".join(wire.lines(first))
            async for event in events:
                yield "".join(wire.lines(event))
        except ApiError as error:
            yield wire.failed(error)
        except TryAgainError:
            yield wire.failed(answer_broken())


async def _embeddings(body: EmbeddingRequest, request: Request, wishes: Wishes) -> Response:
    """POST /v1/embeddings: vectors by the encoder of the live release, canary or not, so that they stay comparable."""
    headed = await _headed(request, wishes)
    release = ""
    if body.model != MODEL:
        release = await _named_release(headed, body.model, f"The model is called {MODEL!r}.")
    ask = headed.ask("", body, release=release)
    async with while_connected(request.receive):
        made = await embed(headed.service, ask, body)
    content = orjson.dumps(embeddings_body(made, body), option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, headers=headers(made.release, made.trace_id), media_type="application/json")


async def _answers(body: AnswerRequest, request: Request, wishes: Wishes) -> Response:
    """POST /v1/answers: a grounded answer with its sources."""
    headed = await _headed(request, wishes)
    ask = headed.ask(body.question, body, session=body.session, stream=body.stream)
    if body.stream:
        return await _streamed(request, headed.service.stream(ask), lambda _: AnswerStream())
    outcome = await _waited(request, headed.service.ask(ask))
    answer = outcome.answer
    return _json(answer_body(answer, outcome.assignment), headers(answer.release, answer.trace_id, outcome.cache))


async def _models(caller: Caller, service: Service) -> dict[str, Any]:
    """GET /v1/models: what can be named as model; operators also see the releases."""
    names = [MODEL, CHAT]
    if caller.role == "operator":
        names += sorted((await service.routing.get()).placements)
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": MODEL} for name in names],
    }


async def _feedback(body: FeedbackRequest, caller: Caller, service: Service) -> dict[str, Any]:
    """POST /v1/feedback: a thumb for an answer, perhaps with a correction and a reason."""
    await service.wait_stored(body.trace_id)
    try:
        await asyncio.to_thread(
            service.records.add_feedback,
            body.trace_id,
            body.rating,
            correction=service.redact(body.correction),
            reason=service.redact(body.reason),
            simulated=body.simulated,
            tenant=caller.tenant,
        )
    except InputError as error:
        raise service.not_found(f"No answer has the trace id {body.trace_id}.") from error
    service.metrics.feedback.labels(str(body.rating), str(body.simulated).lower()).inc()
    return {"trace_id": body.trace_id, "stored": True}


async def _trace(trace_id: str, caller: Operator, service: Service) -> dict[str, Any]:
    """GET /v1/traces/{trace_id}: all that was recorded of a request, for operators."""
    await service.wait_stored(trace_id)
    row = await asyncio.to_thread(service.records.trace, trace_id)
    if row is None or row.tenant != caller.tenant:
        raise service.not_found("No answer has this trace id.")
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


async def _health() -> dict[str, str]:
    """GET /health: the process runs."""
    return {"status": "ok"}


async def _ready(service: Service, release: str = "") -> Response:
    """GET /ready: the live release (or the one asked for) can answer now."""
    if service.draining:
        return JSONResponse({"ready": False, "reason": "the gateway is stopping"}, 503)
    try:
        routing = await service.routing.get()
    except SluiceError:
        return JSONResponse({"ready": False, "reason": "the records are not readable"}, 503)
    wanted = release or routing.production
    if wanted is None:
        return JSONResponse({"ready": False, "reason": "no release is live"}, 503)
    loaded = [name for name in routing.placements if service.runtime.loaded(name)]
    ready = wanted in loaded and service.writer.alive
    return JSONResponse({"ready": ready, "release": wanted, "loaded": loaded}, 200 if ready else 503)


async def _metrics(service: Service) -> Response:
    """GET /metrics: figures for Prometheus."""
    service.metrics.inside.set(service.admission.inside)
    service.metrics.backlog.set(service.writer.backlog)
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _reply(service: Answerer, error: ApiError) -> JSONResponse:
    service.metrics.errors.labels(error.code).inc()
    return JSONResponse(error.body, error.status, headers=error.headers)


def handle_errors(app: FastAPI, service: Answerer) -> None:
    """Every error as OpenAI's JSON; what is not meant for the client goes to the log only."""

    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return _reply(service, error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part not in ("body", "header"))
        return _reply(service, ApiError(422, "invalid_request", f"{field}: {first['msg']}", param=field))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _reply(service, ApiError(error.status_code, "http_error", str(error.detail)))

    async def gone(_: Request, error: Exception) -> Response:
        assert isinstance(error, ClientGoneError)
        return Response(status_code=CLIENT_LEFT)

    async def later(_: Request, error: Exception) -> Response:
        LOG.warning("unavailable: %s", error)
        reply = ApiError(503, "unavailable", "A part is not available at the moment; try again.", retry_after=1)
        return _reply(service, reply)

    async def unexpected(request: Request, error: Exception) -> Response:
        LOG.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
        reply = ApiError(500, "internal_error", "The gateway failed; the operator's log says why.")
        reply.headers |= SAFE  # it is sent from outside the middleware
        return _reply(service, reply)

    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientGoneError, gone)
    app.add_exception_handler(TryAgainError, later)
    app.add_exception_handler(Exception, unexpected)


def add_routes(app: FastAPI) -> None:
    """Every path of the gateway. `app.state.answerer` is the service behind them."""
    question = partial(
        app.router.add_api_route, methods=["POST"], response_model=None, route_class_override=QuestionRoute
    )
    question("/v1/chat/completions", _chat, responses=replies(ChatBody, stream=CHAT_EVENTS, named=True))
    question("/v1/answers", _answers, responses=replies(AnswerBody, stream=ANSWER_EVENTS, named=True))
    question("/v1/embeddings", _embeddings, responses=replies(EmbeddingBody, named=True))
    app.add_api_route("/v1/models", _models, methods=["GET"], response_model=None, responses=replies(ModelsBody))
    app.add_api_route("/v1/feedback", _feedback, methods=["POST"], response_model=None, responses=replies(FeedbackBody))
    app.add_api_route(
        "/v1/traces/{trace_id}", _trace, methods=["GET"], response_model=None, responses=replies(TraceBody)
    )
    app.add_api_route("/health", _health, methods=["GET"], response_model=None, responses=replies(HealthBody))
    ready = replies(ReadyBody) | {503: {"model": ReadyBody, "description": "It cannot answer now."}}
    app.add_api_route("/ready", _ready, methods=["GET"], response_model=None, responses=ready)
    metrics: Replies = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus metrics."}
    }
    app.add_api_route("/metrics", _metrics, methods=["GET"], response_class=PlainTextResponse, responses=metrics)
