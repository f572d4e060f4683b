"""Asks the live release the project's own questions through the gateway, for the report and the terminal."""

from typing import Any

import httpx

from flows.recording import Recording
from infra.errors import TryAgainError
from infra.services import gateway_key
from infra.settings import settings
from models.serving.vllm import EngineSpec
from tasks.releasing import NightSpec, production_release, serve


def ask_production(run: Recording, spec: NightSpec) -> list[dict[str, Any]]:
    """Answers of the live release to the policy's questions, as the gateway gives them, question first."""
    production = production_release()
    if production is None or not spec.questions:
        return []
    address = serve([production], run.policy.section("engine", EngineSpec), run.policy.path)
    headers = {"authorization": f"Bearer {gateway_key(settings())}"}
    answers = []
    with httpx.Client(base_url=address, headers=headers, timeout=120, trust_env=False) as client:
        for question in spec.questions:
            reply = client.post("/v1/answers", json={"question": question})
            if reply.is_error:
                raise TryAgainError(f"the gateway did not answer {question!r}: {reply.status_code} {reply.text[:200]}")
            answers.append({"question": question, **reply.json()})
    return answers
