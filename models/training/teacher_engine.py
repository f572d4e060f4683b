"""Asks a teacher through the engine port: several prompts at once, greedily, replies in their order."""

import asyncio
from collections.abc import Callable, Sequence

from infra.errors import InputError
from models.training.teacher import Ask, Reply
from models.types import Engine, Message


def ask_engine(engine: Engine, model: str, max_tokens: int, at_once: int, progress: Callable[[int, int], None]) -> Ask:
    """A function that asks `model` with `at_once` prompts in flight; it closes the engine: call it once.

    A prompt that the server refuses (too long) becomes a reply with that error. Raises: TryAgainError for a server
    that is out of reach, slow or failing: nothing is learnt from half of the questions.
    """

    async def replies(prompts: Sequence[Sequence[Message]]) -> list[Reply]:
        slots, done = asyncio.Semaphore(at_once), 0

        async def one(prompt: Sequence[Message]) -> Reply:
            nonlocal done
            async with slots:
                reply = await _reply(engine, model, prompt, max_tokens)
            done += 1
            progress(done, len(prompts))
            return reply

        try:
            return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))
        finally:
            await engine.close()

    return lambda prompts: asyncio.run(replies(prompts))


async def _reply(engine: Engine, model: str, prompt: Sequence[Message], max_tokens: int) -> Reply:
    try:
        got = await engine.complete(model, prompt, max_tokens=max_tokens)
    except InputError as error:
        return Reply("", error=str(error))
    return Reply(got.text, cut=got.finish_reason == "length")
