"""Tools on the request path: decided before anything is retrieved, from the user's own words alone."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from infra.errors import SluiceError
from infra.store import text_digest
from models.answering.guards.policy import Verdict
from models.answering.pipeline import Pipeline
from models.answering.spent import Spent
from models.answering.tools.calls import Chosen, offer_prompt, offer_schema, read_choice, the_only_call
from models.answering.tools.confirming import Proposals, confirmed_id, new_id
from models.answering.tools.port import Offer, Result, Tool, ToolCaller
from models.answering.tools.spec import ToolsSpec
from models.answering.trail import Trail
from models.types import Answer, Sampling, ToolCall

GONE = "There is nothing to confirm under this id, or it is too late."
Path = Literal["answers", "chat"]


class Toolbox:
    """The tools of a gateway. What a release does not allow is never offered, decided about or run for it."""

    def __init__(self, tools: Sequence[Tool], proposals: Proposals, spec: ToolsSpec) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._proposals = proposals
        self._spec = spec

    def fits(self, words: str, allowed: Sequence[str]) -> bool:
        """Whether a question may be one for a tool: cheap, and wrong only in saying yes."""
        return bool(allowed) and (bool(confirmed_id(words)) or bool(self.offers(words, allowed)))

    def offers(self, words: str, allowed: Sequence[str]) -> list[Offer]:
        """Allowed tools that the words fit."""
        found = []
        for name in allowed:
            tool = self._tools.get(name)
            if tool is not None and (values := tool.values(words)):
                found.append(Offer(tool, values))
        return found

    async def answer(
        self, pipeline: Pipeline, question: str, caller: ToolCaller, trace_id: str, path: Path
    ) -> Answer | None:
        """What a tool says to a question; None where it is one for the release to answer.

        A tool that fails gives the policy's fallback text with `error` set. Raises: InputError as the guards do.
        """
        begin, trail = time.perf_counter(), Trail()
        with trail.step("guard_input") as note:
            words, is_fine, events = pipeline.guards.question(question)
            trail.events += events
            note["events"] = len(events)
        allowed = pipeline.spec.tools
        if not is_fine or not self.fits(words, allowed):
            return None
        spent = Spent()
        try:
            used = await self._use(trail, pipeline, words, caller, spent)
        except SluiceError:
            used = None
            call: ToolCall | None = None
            verdict = Verdict(answer=pipeline.guards.policy.fallback, cited=(), refused=False)
        else:
            if used is None:
                return None
            call, result = used
            verdict = self._guarded(trail, pipeline, result)
        return Answer(
            question=words,
            answer=verdict.answer,
            citations=(),
            refused=verdict.refused or (call is not None and call.outcome == "refused"),
            release=pipeline.release,
            trace_id=trace_id,
            latency_ms=(time.perf_counter() - begin) * 1000,
            guards=tuple(trail.events),
            prompt_tokens=spent.prompt,
            completion_tokens=spent.completion,
            cached_tokens=spent.cached,
            spans=tuple(trail.spans),
            error=trail.error,
            path=path,
            tools=(call,) if call else (),
        )

    async def _use(
        self, trail: Trail, pipeline: Pipeline, words: str, caller: ToolCaller, spent: Spent
    ) -> tuple[ToolCall, Result] | None:
        if given := confirmed_id(words):
            with trail.step("tool"):
                return await asyncio.to_thread(self._confirm, given, pipeline.spec.tools, caller)
        with trail.step("choose_tool") as note:
            chosen = await self._choose(pipeline, words, spent)
            note["tool"] = chosen.tool.name if chosen else ""
        if chosen is None:
            return None
        with trail.step("tool") as note:
            note["tool"] = chosen.tool.name
            return await asyncio.to_thread(self._begin, chosen, caller)

    async def _choose(self, pipeline: Pipeline, words: str, spent: Spent) -> Chosen | None:
        offers = self.offers(words, pipeline.spec.tools)
        may_decline = self._spec.decide == "model"
        if not may_decline and (only := the_only_call(offers)):
            return only
        done = await pipeline.engine.complete(
            pipeline.model,
            offer_prompt(offers, words, may_decline),
            Sampling(self._spec.max_tokens, schema=offer_schema(offers, may_decline)),
        )
        spent.add(done)
        return read_choice(done.text, offers, words)

    def _begin(self, chosen: Chosen, caller: ToolCaller) -> tuple[ToolCall, Result]:
        """Run a call, or propose it where the user has to confirm it first."""
        tool, arguments = chosen
        values = arguments.model_dump(mode="json")
        if not tool.is_destructive:
            result = tool.run(arguments, caller, uuid.uuid4().hex)
            return _call(tool.name, values, result.outcome, result.detail), result
        given = new_id()
        expires = time.time() + self._spec.confirm_s
        self._proposals.propose(_key(given), caller.tenant, caller.digest, tool.name, values, expires)
        text = f"{tool.asks(arguments)} To confirm, write: confirm {given}"
        return _call(tool.name, values, "proposed"), Result(text)

    def _confirm(self, given: str, allowed: Sequence[str], caller: ToolCaller) -> tuple[ToolCall, Result]:
        """Make the call that was proposed to this caller under this id; once, however often it is confirmed."""
        key = _key(given)
        proposed = self._proposals.proposal(key, caller.digest)
        tool = self._tools.get(proposed.tool) if proposed else None
        if proposed is None or tool is None or tool.name not in allowed:
            return _call("confirm", {}, "refused", "no such proposal for this caller"), Result(GONE, "refused")
        if proposed.result:
            return _call(tool.name, proposed.arguments, "done", "confirmed before"), Result(proposed.result)
        result = tool.run(tool.arguments.model_validate(proposed.arguments), caller, key)
        self._proposals.confirm(key, result.text)
        return _call(tool.name, proposed.arguments, result.outcome, result.detail), result

    @staticmethod
    def _guarded(trail: Trail, pipeline: Pipeline, result: Result) -> Verdict:
        """What of a tool's words may go out."""
        with trail.step("guard_output") as note:
            guard = pipeline.guards.output.plain(pipeline.prompt.refusal, whole=True)
            guard.push(result.text)
            verdict = guard.end()
            trail.events += verdict.events
            note["events"] = len(verdict.events)
            return verdict


def _key(given: str) -> str:
    """What is kept of an id."""
    return text_digest(given)


def _call(
    name: str, values: dict[str, Any], outcome: Literal["proposed", "done", "refused", "failed"], detail: str = ""
) -> ToolCall:
    return ToolCall(id=f"call_{uuid.uuid4().hex[:24]}", name=name, arguments=values, outcome=outcome, detail=detail)
