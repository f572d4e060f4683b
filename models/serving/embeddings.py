"""Embeddings in OpenAI's form, by the encoder that the live release searches with."""

import asyncio
import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from indexes.types import Embedder, Vectors
from models.answering.pipeline import new_trace_id
from models.serving.answerer import Answerer
from models.serving.asks import Ask
from models.serving.entrance import too_late
from models.serving.traffic import Assignment
from models.serving.wire import ApiError, Name
from models.serving.writer import to_row
from models.types import Answer, Span

AT_ONCE = 8
"""Texts in one step of the encoder: what a client that leaves, or a deadline, still costs at most."""
Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """Body of POST /v1/embeddings."""

    model_config = ConfigDict(extra="ignore")

    input: Text | Annotated[list[Text], Field(min_length=1)]
    model: str = "sluice"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: Literal["passage", "query"] = "passage"
    """Encoders that want another prompt before a question than before a passage are told which it is."""
    user: Name | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, one at least."""
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingRow(BaseModel):
    """One vector: numbers, or base64 of 32-bit floats, little end first."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens as the release's language model counts them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingBody(BaseModel):
    """Answer of POST /v1/embeddings."""

    object: Literal["list"] = "list"
    data: list[EmbeddingRow]
    model: str
    usage: EmbeddingUsage


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, shape (texts, dimension), and what they took."""

    vectors: Vectors
    tokens: int
    release: str
    trace_id: str


def embeddings_body(made: Embedded, asked: EmbeddingRequest) -> dict[str, Any]:
    """See EmbeddingBody; numbers stay in their arrays for the encoder of the JSON."""
    rows: list[Any] = list(made.vectors)
    if asked.encoding_format == "base64":
        rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": asked.model,
        "usage": {"prompt_tokens": made.tokens, "total_tokens": made.tokens},
    }


async def embed(service: Answerer, asked: Ask, body: EmbeddingRequest) -> Embedded:
    """The vectors of a body's texts, under the same admission, deadline, limits and traces as an answer.

    The trace holds no text. Raises: ApiError as the client shall read it, TryAgainError where the encoder is away.
    """
    texts = body.texts
    if len(texts) > (most := service.spec.max_embedding_inputs):
        raise ApiError(422, "too_many_inputs", f"At most {most} texts in one request.", param="input")
    routing = await service.routing.get()
    assignment = service.assigned(asked, routing, split=False)
    trace_id, created, begin = new_trace_id(), time.time(), time.time_ns()
    tokens, failure = 0, "unexpected failure"
    async with service.admission.place(asked.left_s):
        try:
            async with asyncio.timeout(asked.left_s):
                pipeline = await service.runtime.pipeline(assignment.release, routing.placements[assignment.release])
                encoder = pipeline.embedder
                if encoder is None:
                    raise ApiError(404, "no_encoder", "The release searches without an encoder.", param="model")
                if body.dimensions not in (None, encoder.dimension):
                    told = f"The vectors have {encoder.dimension} dimensions."
                    raise ApiError(422, "wrong_dimensions", told, param="dimensions")
                asked.usage.begun = True
                tokens = await asyncio.to_thread(lambda: sum(pipeline.count_tokens(text) for text in texts))
                vectors = await _vectors(encoder, texts, body.input_type)
                failure = ""
        except ApiError:
            failure = ""
            raise
        except TimeoutError as error:
            failure = "timeout"
            raise too_late() from error
        except (asyncio.CancelledError, GeneratorExit):
            failure = "the client left"
            raise
        finally:
            if asked.usage.begun:
                span = Span(name="embed", start_ns=begin, end_ns=time.time_ns(), attributes={"texts": len(texts)})
                _note(service, asked, assignment, trace_id, created, tokens, span, failure)
    service.metrics.embedded.inc(len(texts))
    return Embedded(vectors, tokens, assignment.release, trace_id)


async def _vectors(encoder: Embedder, texts: Sequence[str], kind: str) -> Vectors:
    """In steps, between which a deadline or a client that leaves ends the work."""

    def step(some: Sequence[str]) -> Vectors:
        return np.stack([encoder.query(text) for text in some]) if kind == "query" else encoder.passages(some)

    steps = [texts[first : first + AT_ONCE] for first in range(0, len(texts), AT_ONCE)]
    return np.concatenate([await asyncio.to_thread(step, some) for some in steps])


def _note(
    service: Answerer,
    asked: Ask,
    assignment: Assignment,
    trace_id: str,
    created: float,
    tokens: int,
    span: Span,
    failure: str,
) -> None:
    events = service.unlike_before(asked, tokens)
    answer = Answer(
        question="", answer="", citations=(), refused=False, release=assignment.release, trace_id=trace_id,
        latency_ms=(span.end_ns - span.start_ns) / 1e6, prompt_tokens=tokens, spans=(span,), error=failure,
        path="embeddings", cost=service.prices.of(tokens, 0, 0), guards=events,
    )  # fmt: skip
    asked.usage.add(answer)
    for event in events:
        service.metrics.guards.labels(event.stage, event.guard, event.action).inc()
    service.metrics.tokens.labels("prompt").inc(tokens)
    service.record(to_row(answer, assignment, asked, created))
