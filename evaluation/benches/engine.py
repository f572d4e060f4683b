"""Bench: vLLM against transformers on the same model and prompts: tokens a second and times, 1 and 8 at once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from evaluation.benches import BenchRow
from evaluation.load import LoadReport, LoadSpec
from evaluation.loading.comparing import throughput_ratio
from evaluation.loading.generator import run_load
from evaluation.loading.prompts import LoadPrompt, plain
from infra.errors import InputError, SetupError
from infra.processes import ProcessManager
from infra.settings import Policy, Settings
from infra.store import LocalStore
from models.base import policy_model
from models.cases import CaseSpec, load_cases
from models.prompts import DEFAULT, render
from models.serving.deployment import Deployer
from models.serving.vllm import EngineSpec, vllm_build
from models.types import Case, Citation

CONCURRENCIES = (1, 8)
PASSAGES = 3
PROMPTS = 48
MAX_TOKENS = 48


def run(settings: Settings) -> list[BenchRow]:
    """Rows of both engines for each concurrency, vLLM first and transformers as its peer.

    The interval of the throughput ratio comes from resampling requests (the same ones in both engines).

    Raises: SetupError where vLLM or the model is missing.
    """
    if not vllm_build(settings):
        raise SetupError(f"{settings.engine_python}: no vLLM to measure; run make setup")
    policy = Policy(settings.policy)
    folder = policy_model(policy)
    prompts = case_prompts(load_cases(policy.section("cases", CaseSpec), policy.path.parent))
    spec = policy.section("engine", EngineSpec)
    with tempfile.TemporaryDirectory() as home:
        fast = _measure(settings, "vllm", Path(home), folder, spec, prompts)
        slow = _measure(settings, "transformers", Path(home), folder, spec, prompts)
    return [row for one, other in zip(fast, slow, strict=True) for row in rows(one, other)]


def case_prompts(cases: Sequence[Case]) -> list[LoadPrompt]:
    """Prompts in the form of production: the evidence of a case among that of its neighbours, then its question.

    Raises: InputError without cases that have evidence.
    """
    usable = [case for case in cases if case.evidence][:PROMPTS]
    if not usable:
        raise InputError("bench engine: no case has evidence; check cases.files in the policy file")
    prompts = []
    for number, case in enumerate(usable):
        near = [usable[(number + step) % len(usable)] for step in range(PASSAGES)]
        texts = [" ".join(other.evidence) for other in near]
        shown = [Citation(number=at, document="", chunk="", title="", text=text) for at, text in enumerate(texts, 1)]
        prompts.append(render(DEFAULT, shown, case.question, case.id))
    return plain(prompts)


def _measure(
    settings: Settings, kind: str, home: Path, folder: Path, spec: EngineSpec, prompts: Sequence[LoadPrompt]
) -> list[LoadReport]:
    """One engine, started for this, under closed-loop load at each concurrency."""
    own = settings.model_copy(update={"home": home, "engine_kind": kind, "engine_url": ""})
    deployer = Deployer(own, LocalStore(home / "store"), ProcessManager(home), spec)
    with deployer.engine_for(folder, name=f"bench-{kind}") as placement:
        return [
            run_load(placement.base_url, placement.model, prompts, _load(prompts, concurrency))
            for concurrency in CONCURRENCIES
        ]


def _load(prompts: Sequence[LoadPrompt], concurrency: int) -> LoadSpec:
    return LoadSpec(requests=len(prompts), warmup=concurrency, concurrency=concurrency, max_tokens=MAX_TOKENS)


def rows(one: LoadReport, other: LoadReport) -> list[BenchRow]:
    """The rows of one concurrency. Raises SetupError when requests failed: numbers beside failures mean nothing."""
    for report in (one, other):
        if report.errors or report.ttft_ms is None or report.e2e_ms is None:
            raise SetupError(f"bench engine: requests failed: {report.errors}")
    low, high = throughput_ratio(one.timings, other.timings)
    at = f"vLLM, {one.spec.concurrency} at once"
    first = BenchRow(
        name=f"{at}: output",
        value=one.output_tokens_per_s,
        unit="tokens/s",
        peer="transformers",
        peer_value=other.output_tokens_per_s,
        ratio=one.output_tokens_per_s / other.output_tokens_per_s,
        low=low,
        high=high,
    )
    return [first, *_time_rows(at, one, other)]


def _time_rows(at: str, one: LoadReport, other: LoadReport) -> list[BenchRow]:
    pairs = {
        "time to first token, P50": (one.ttft_ms and one.ttft_ms.p50, other.ttft_ms and other.ttft_ms.p50),
        "time per token, P50": (one.tpot_ms and one.tpot_ms.p50, other.tpot_ms and other.tpot_ms.p50),
        "whole answer, P50": (one.e2e_ms and one.e2e_ms.p50, other.e2e_ms and other.e2e_ms.p50),
        "whole answer, P95": (one.e2e_ms and one.e2e_ms.p95, other.e2e_ms and other.e2e_ms.p95),
    }
    return [
        BenchRow(name=f"{at}: {name}", value=value, unit="ms", peer="transformers", peer_value=peer, ratio=value / peer)
        for name, (value, peer) in pairs.items()
        if value and peer
    ]
