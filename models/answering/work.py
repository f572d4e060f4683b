"""What is done for one request, whichever way it goes: a tool, a conversation, or an answer from passages."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from models.answering.chat import Chat, Talk
from models.answering.pipeline import Pipeline, Screened
from models.answering.tools.port import ToolCaller
from models.answering.tools.toolbox import Toolbox
from models.types import Answer


async def worked_on(
    pipeline: Pipeline,
    question: str,
    caller: ToolCaller,
    trace_id: str,
    *,
    talk: Talk | None = None,
    tools: Toolbox | None = None,
    screened: Screened | None = None,
    whole: bool = True,
) -> AsyncGenerator[str | Answer]:
    """Text and answer: of a tool where the user's words ask for one, else of the release.

    Whether a tool is called is settled before anything is retrieved: no passage has a part in it. `screened` is what
    the input guards said of the question, where they were asked already. With `whole` no text comes before the answer.
    """
    if tools is not None and tools.fits(question, pipeline.spec.tools):
        done = await tools.answer(pipeline, question, caller, trace_id, "answers" if talk is None else "chat")
        if done is not None:
            yield done
            return
    if talk is not None:
        events = Chat(pipeline).stream(talk, caller.access, trace_id, whole=whole)
    else:
        events = pipeline.stream(question, caller.access, trace_id, screened, whole=whole)
    async with aclosing(events):
        async for event in events:
            yield event
