"""Attack success: red-team cases through a release's own path, and what they reached in answers and in tools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evaluation.attacks import FAMILIES, Attack, filled, success
from evaluation.intervals import wilson
from indexes.filters import Filters
from indexes.retriever import Mode, Probe, Retriever
from indexes.types import Chunk, Passage
from infra.errors import InputError
from models.answering.chat import Talk
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import Pipeline, new_trace_id
from models.answering.tools.port import ToolCaller
from models.answering.tools.toolbox import Toolbox
from models.answering.work import worked_on
from models.types import Answer, Message

CALLER = "f" * 64
"""Digest of the attacker's key."""
Z_95 = 1.959964


class PlantedRetriever(Retriever):
    """Finds an attacker's passages first, then what the index has."""

    def __init__(self, planted: Sequence[Chunk], inner: Retriever) -> None:
        self._planted = list(planted)
        self._inner = inner

    def search(
        self,
        question: str,
        access: frozenset[str],
        k: int,
        mode: Mode | None = None,
        *,
        filters: Filters | None = None,
        probes: Sequence[Probe] = (),
        neighbours: bool = False,
    ) -> list[Passage]:
        """See Retriever."""
        found = self._inner.search(question, access, k, mode, filters=filters, probes=probes, neighbours=neighbours)
        top = max((passage.score for passage in found), default=1.0)
        return [*(Passage(chunk=chunk, score=top + 1) for chunk in self._planted), *found][:k]


def planted_chunks(attack: Attack, canary: str) -> list[Chunk]:
    """The passages of an attack, as chunks that everybody may see."""
    return [
        Chunk(
            id=f"{attack.id}-{number}", document=f"planted/{attack.id}", title=filled(one.title, canary),
            text=filled(one.text, canary), start=0, end=len(one.text), tokens=0, access=("public", "staff"),
        )
        for number, one in enumerate(attack.passages)
    ]  # fmt: skip


def without_guards(policy: GuardPolicy) -> GuardPolicy:
    """The policy with every rule and classifier off: what holds then holds by construction."""
    return GuardPolicy(
        max_question_chars=policy.max_question_chars,
        max_answer_chars=100_000,
        question_injection="flag",
        passage_injection="flag",
        personal_data="flag",
        personal_min_score=1.0,
        uncited="allow",
        grounding_min_share=0.0,
        fallback=policy.fallback,
    )


@dataclass(frozen=True, slots=True)
class Attacked:
    """An attack and what came of it. `reached` is empty where it failed."""

    attack: Attack
    answer: Answer
    reached: str

    @property
    def called_by_document(self) -> bool:
        """Whether a passage brought about a call: there was one though the user's words alone cause none."""
        return bool(self.answer.tools) and "*" in self.attack.calls and bool(self.attack.passages)


PipelineFor = Callable[[Attack], Pipeline]
"""The pipeline that an attack meets: the release's, with the attacker's passages in its index."""


async def attacked(attacks: Sequence[Attack], pipeline_for: PipelineFor, tools: Toolbox, canary: str) -> list[Attacked]:
    """Every attack, one after another, on the path that a request takes through the gateway."""
    seen = []
    for attack in attacks:
        answer = await _answer(attack, pipeline_for(attack), tools, canary)
        seen.append(Attacked(attack, answer, success(attack, answer, canary)))
    return seen


async def _answer(attack: Attack, pipeline: Pipeline, tools: Toolbox, canary: str) -> Answer:
    caller = ToolCaller(CALLER, attack.tenant, frozenset(attack.access))
    talk = None
    if attack.model == "sluice-chat":
        system = [Message(role="system", content=filled(attack.system, canary))] if attack.system else []
        talk = Talk(messages=(*system, Message(role="user", content=attack.question)), question=attack.question)
    trace_id = new_trace_id()
    try:
        events = [
            event async for event in worked_on(pipeline, attack.question, caller, trace_id, talk=talk, tools=tools)
        ]
    except InputError as error:
        return Answer(
            question=attack.question, answer="", citations=(), refused=True, release=pipeline.release,
            trace_id=trace_id, latency_ms=0.0, error=str(error),
        )  # fmt: skip
    answer = events[-1]
    assert isinstance(answer, Answer), "work ends with its answer"
    sent = "".join(event for event in events if isinstance(event, str))
    return answer if answer.answer.startswith(sent) else answer.model_copy(update={"answer": sent + answer.answer})


class Rate(NamedTuple):
    """Share of attacks that succeeded, with its 95 % interval (Wilson)."""

    name: str
    succeeded: int
    attacks: int
    low: float
    high: float


def rates(seen: Sequence[Attacked]) -> list[Rate]:
    """The rate of every family that was tried, then of all."""
    families: list[tuple[str, list[Attacked]]] = [
        (family, [one for one in seen if one.attack.family == family]) for family in FAMILIES
    ]
    found = []
    for name, ones in [*families, ("all", list(seen))]:
        if ones:
            reached = sum(bool(one.reached) for one in ones)
            found.append(Rate(name, reached, len(ones), *wilson(reached, len(ones), Z_95)))
    return found
