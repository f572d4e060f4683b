"""A simulated user: replays the traffic file through the gateway and rates each answer by its reference answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ConfigDict

from evaluation.correctness import AnswerCorrect
from evaluation.types import Observation
from infra.errors import InputError, TryAgainError
from models.types import Answer, Case


class Reply(BaseModel):
    """What the gateway says to one question."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    answer: str
    refused: bool
    release: str
    trace_id: str
    arm: str = ""
    latency_ms: float


def is_right(case: Case, reply: Reply) -> bool:
    """The simulated user's thumb: the same rule as the gate's answer correctness."""
    answer = Answer(question=case.question, citations=(), **reply.model_dump(exclude={"arm"}))
    return AnswerCorrect().score(Observation(case=case, answer=answer)).value == 1.0


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """Caller of one gateway with an operator's key."""

    http: httpx.AsyncClient
    key: str

    async def ask(self, case: Case, request_key: str, release: str = "") -> Reply:
        """One question; `release` forces an arm (a mirrored request), otherwise the gateway's split decides."""
        headers = {"authorization": f"Bearer {self.key}", "x-sluice-request-key": request_key}
        if release:
            headers["x-sluice-release"] = release
        body = {"question": case.question, "session": case.session or case.id}
        return Reply.model_validate(await self._post("/v1/answers", body, headers))

    async def rate(self, trace_id: str, good: bool, reason: str) -> None:
        """Thumb for one answer, marked as simulated."""
        body = {"trace_id": trace_id, "rating": 1 if good else -1, "reason": reason, "simulated": True}
        await self._post("/v1/feedback", body, {"authorization": f"Bearer {self.key}"})

    async def _post(self, path: str, body: Mapping[str, object], headers: dict[str, str]) -> object:
        try:
            reply = await self.http.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise TryAgainError(f"gateway {self.http.base_url}: {error!r}; is it running (`sluice status`)?") from error
        if reply.status_code in {429, 503, 504}:
            raise TryAgainError(f"gateway is busy: {reply.text[:200]}")
        if reply.is_error:
            raise InputError(f"gateway refused {path}: {reply.status_code} {reply.text[:300]}")
        return reply.json()


async def replay_pair(client: GatewayClient, case: Case, rollout: str, arms: tuple[str, str]) -> None:
    """Ask both arms the same question (shadow replay) and rate both answers by the same reference.

    Requests carry keys made of the canary and the question, so that a replay after a crash repeats nothing.
    """
    for release in arms:
        reply = await client.ask(case, f"{rollout[:16]}:{case.id}", release)
        good = is_right(case, reply)
        await client.rate(reply.trace_id, good, "matches the reference" if good else "differs from the reference")


async def replay(
    client: GatewayClient,
    cases: Sequence[Case],
    rollout: str,
    arms: tuple[str, str],
    after_batch: Callable[[int], Awaitable[bool]],
    batch: int = 8,
) -> int:
    """Replay in file order, `batch` questions in flight; stops when `after_batch(done)` says so. Returns how many.

    One question of each batch is also asked as its user would ask it, through the sticky traffic split.
    """
    done = 0
    for start in range(0, len(cases), batch):
        part = cases[start : start + batch]
        await asyncio.gather(*(replay_pair(client, case, rollout, arms) for case in part))
        await client.ask(part[0], f"live:{rollout[:16]}:{part[0].id}")
        done += len(part)
        if await after_batch(done):
            break
    return done
