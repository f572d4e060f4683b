"""Asks a teacher behind an OpenAI-compatible address; what it said is kept, so that nothing is paid for twice."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import Field, model_validator

from indexes.cache import ContentCache
from infra.errors import InputError
from infra.settings import Spec
from infra.store import value_digest
from models.training.teacher import Ask, Reply, TeachSpec
from models.types import Engine, Message, Sampling

_BATCH = 64
"""Prompts between two writes: replies that a killed run asks for again, at most."""
Progress = Callable[[int, int], None]


class AskingSpec(Spec):
    """How questions are put to a server whose answers nobody waits for one by one."""

    max_tokens: int = Field(64, ge=1, le=4096)
    """Most tokens of a reply; one that is cut off there is not learnt."""
    at_once: int = Field(16, ge=1, le=256)
    """Questions in flight."""
    timeout_s: float = Field(60, gt=0, le=3600)
    """Longest wait for a reply, in seconds."""


class TeacherSpec(TeachSpec, AskingSpec):
    """A teacher: a model at an OpenAI-compatible address, or one that is served here while it is asked."""

    endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    """Address of the server, without /v1; its key is SLUICE_TEACHER_API_KEY. Empty: `model` is served here."""
    model: str = Field(min_length=1)
    """Name of the model there; without an endpoint what section `model` calls `base`: starter, a folder or an id."""
    made_questions: int = Field(300, ge=0)
    """Most questions made by rule out of the corpus that it answers."""
    own_questions: int = Field(0, ge=0)
    """Most passages about which it also writes a question itself; a small model writes none worth answering."""

    @model_validator(mode="after")
    def _has_questions(self) -> "TeacherSpec":
        if not self.made_questions + self.own_questions:
            raise ValueError("made_questions and own_questions: at least one must be above 0")
        return self


class Client(NamedTuple):
    """How to open the engine to ask, the model's name there, and what tells this model from any other."""

    open_engine: Callable[[], Engine]
    model: str
    version: str


def asking(client: Client, spec: AskingSpec, kept: ContentCache, progress: Progress) -> Ask:
    """A function that asks the teacher at temperature 0, and first looks into `kept`.

    A prompt that the server refuses gives a reply with the error. The function raises InputError where it refuses every
    prompt, and TryAgainError where it cannot be reached; what it had said until then is kept.
    """

    def ask(prompts: Sequence[Sequence[Message]]) -> list[Reply]:
        return asyncio.run(_ask_all(client, prompts, spec, kept, progress)) if prompts else []

    return ask


async def _ask_all(
    client: Client, prompts: Sequence[Sequence[Message]], spec: AskingSpec, kept: ContentCache, progress: Progress
) -> list[Reply]:
    keys = [_key(client, prompt, spec) for prompt in prompts]
    known = {key: _decoded(value) for key, value in kept.read(keys).items()}
    waiting = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
    slots, engine = asyncio.Semaphore(spec.at_once), client.open_engine()
    done = len(prompts) - len(waiting)
    try:
        left = list(waiting.items())
        for first in range(0, len(left), _BATCH):
            part = left[first : first + _BATCH]
            replies = await asyncio.gather(
                *(_ask(engine, client.model, prompt, spec, slots) for _, prompt in part), return_exceptions=True
            )
            fresh = {key: reply for (key, _), reply in zip(part, replies, strict=True) if isinstance(reply, Reply)}
            kept.write({key: _encoded(reply) for key, reply in fresh.items() if not reply.error})
            for reply in replies:
                if isinstance(reply, BaseException):
                    raise reply
            known |= fresh
            done += len(part)
            progress(done, len(prompts))
    finally:
        await engine.close()
    found = [known[key] for key in keys]
    if all(reply.error for reply in found):
        raise InputError(f"the teacher {client.model} refuses every question: {found[0].error}")
    return found


async def _ask(
    engine: Engine, model: str, prompt: Sequence[Message], spec: AskingSpec, slots: asyncio.Semaphore
) -> Reply:
    async with slots:
        try:
            said = await engine.complete(model, prompt, Sampling(spec.max_tokens))
        except InputError as error:
            return Reply("", error=str(error))
    return Reply(said.text, cut=said.finish_reason == "length")


def _key(client: Client, prompt: Sequence[Message], spec: AskingSpec) -> str:
    return value_digest([client.version, client.model, spec.max_tokens, [message.model_dump() for message in prompt]])


def _encoded(reply: Reply) -> bytes:
    return (b"c" if reply.cut else b"w") + reply.text.encode()


def _decoded(value: bytes) -> Reply:
    return Reply(value[1:].decode(), cut=value[:1] == b"c")
