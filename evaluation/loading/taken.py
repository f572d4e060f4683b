"""The prompts that a release would send: its pipeline runs up to an engine that only keeps what it is asked."""

from collections.abc import AsyncGenerator, Callable, Sequence

from evaluation.asking import ask_cases
from evaluation.loading.prompts import LoadPrompt
from infra.errors import InputError
from models.answering.pipeline import Pipeline
from models.types import Case, Engine, Message, Piece, Sampling


class PromptTaker(Engine):
    """An engine that answers nothing and keeps every request."""

    def __init__(self) -> None:
        self.prompts: list[LoadPrompt] = []

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        """See Engine. The end of an empty answer at once."""
        self.prompts.append(LoadPrompt(messages=tuple(messages), max_tokens=sampling.max_tokens))
        yield Piece(finish_reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


async def taken_prompts(
    pipeline: Pipeline,
    taker: PromptTaker,
    cases: Sequence[Case],
    access: frozenset[str],
    progress: Callable[[int, int], None],
) -> list[LoadPrompt]:
    """What the pipeline, whose engine is `taker`, sends for the questions of `cases`, in their order.

    A question that the guards refuse sends nothing, and one with a pattern that asks the model sends more than one.

    Raises: InputError where nothing was sent, with the first error of the pipeline.
    """
    answers = [row.answer for row in await ask_cases(pipeline, cases, access, 1, progress)]
    if not taker.prompts:
        errors = [answer.error for answer in answers if answer.error]
        raise InputError(f"none of {len(cases)} questions comes to the engine: {errors[0] if errors else 'guards'}")
    return taker.prompts
