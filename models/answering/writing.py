"""One text of a model on its way through the output guards: what leaves when, and what it took."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from statistics import median

from infra.errors import TryAgainError
from models.answering.context import TokenCount
from models.answering.guards.policy import Verdict
from models.answering.guards.stream import StreamGuard
from models.answering.spent import Spent
from models.answering.trail import Trail
from models.types import Message, Piece


async def guarded(
    pieces: AsyncGenerator[Piece],
    guard: StreamGuard,
    *,
    trail: Trail,
    spent: Spent,
    model: str,
    messages: Sequence[Message],
    count_tokens: TokenCount,
    timeout_s: float,
) -> AsyncGenerator[str]:
    """What the guard lets go of a text while it is written, as span `generate`; ask the guard for the end of it.

    The engine's work ends with the text, when the guard stops the answer, and when this is closed. Tokens that the
    engine could not tell, because it was stopped, are counted here. Raises: TryAgainError when the engine takes longer
    than `timeout_s`, the time in which nobody waited for it left out; what the engine raises.
    """
    before, first = spent.prompt, 0.0
    waited = _Waited()
    with trail.step("generate") as note:
        try:
            async with asyncio.timeout(None) as limit:
                while (piece := await waited.next(pieces, limit, timeout_s)) is not None:
                    if piece.finish_reason or piece.prompt_tokens:
                        spent.add(piece)
                    if piece.text:
                        first = first or waited.seconds
                        if text := guard.push(piece.text):
                            yield text
                        if guard.blocked:
                            break
        except TimeoutError as error:
            raise TryAgainError(f"no complete answer within {timeout_s:g} s") from error
        finally:
            await pieces.aclose()
            if guard.text and spent.prompt == before:
                spent.prompt += sum(count_tokens(message.content) for message in messages)
                spent.completion += count_tokens(guard.text)
            note.update(
                model=model,
                engine=spent.engine,
                prompt_tokens=spent.prompt - before,
                completion_tokens=spent.completion,
                first_token_s=first or waited.seconds,
                finish_reason=spent.finish,
            )


class _Waited:
    """How long an engine was waited for: what is done with a piece, by whomever, is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def next(self, pieces: AsyncGenerator[Piece], limit: asyncio.Timeout, timeout_s: float) -> Piece | None:
        """The next piece, None at the end; `limit` runs out when `timeout_s` were waited in all."""
        begin = asyncio.get_running_loop().time()
        limit.reschedule(begin + timeout_s - self.seconds)
        piece = await anext(pieces, None)
        limit.reschedule(None)
        self.seconds += asyncio.get_running_loop().time() - begin
        return piece


def checked(guard: StreamGuard, trail: Trail) -> Verdict:
    """The verdict over a text, as span `guard_output` with the delay that the guards added to what was streamed."""
    with trail.step("guard_output") as note:
        verdict = guard.end()
        trail.events += verdict.events
        note.update(events=len(verdict.events), busy_ms=round(guard.busy_ms, 3), held_chars=guard.most_held)
        if guard.delays_ms:
            note.update(added_ms_p50=round(median(guard.delays_ms), 3), added_ms_max=round(max(guard.delays_ms), 3))
    if verdict.cut:
        stopped = next(event for event in verdict.events if event.action == "block")
        trail.error = f"guard_output: the stream was ended: {stopped.guard}"
    return verdict


def broken(sent: str, fallback: str) -> Verdict:
    """What is told when a part has failed: what was sent already, or else the fallback."""
    return Verdict(answer=sent or fallback, cited=(), refused=False, cut=bool(sent))


def finish_reason(verdict: Verdict, spent: Spent) -> str:
    """How the answer ended, in OpenAI's words; `error` where a text broke off."""
    if verdict.blocked:
        return "content_filter"
    return "error" if verdict.cut else spent.finish or "stop"
