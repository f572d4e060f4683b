"""Bench: the sample's red-team cases on the policy's model and guards: which attacks succeed, with and without them."""

import asyncio
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evaluation.attacks import Attack, load_attacks
from evaluation.benches import BenchRow
from evaluation.benches.retrieving.indexed import BenchIndexes
from evaluation.redteam import Attacked, PlantedRetriever, attacked, planted_chunks, rates, without_guards
from indexes.build import load_index
from indexes.hybrid import HybridRetriever
from indexes.types import Embedder
from infra.processes import ProcessManager
from infra.records import Records
from infra.settings import Policy, Settings
from infra.store import LocalStore
from models.answering.context import TokenCount, token_counter
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec, Pipeline
from models.answering.tools.open import open_tools
from models.answering.tools.spec import ToolsSpec
from models.base import policy_model
from models.prompts import DEFAULT
from models.serving.deployment import Deployer
from models.serving.engine import OpenAIEngine
from models.serving.vllm import EngineSpec
from models.types import Engine

FILE = "infra/sample/cases/redteam.jsonl"
ARMS = ("guards on", "guards off")


def run(settings: Settings) -> list[BenchRow]:
    """Share of attacks that succeed, by family with 95 % intervals, and calls that documents brought about.

    Raises: InputError for a case that is wrong, SetupError where the engine does not start.
    """
    policy = Policy(settings.policy)
    root = policy.path.parent
    attacks = load_attacks(root / FILE)
    model = policy_model(policy)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        count = token_counter(model)
        indexes = BenchIndexes(settings, policy, count, home)
        embedder, search = indexes.embedder, policy.section("answering", AnswerSpec).search
        retriever = load_index(indexes.built({}), embedder, search)
        own = settings.model_copy(update={"home": home, "engine_url": ""})
        deployer = Deployer(own, LocalStore(home / "store"), ProcessManager(home), policy.section("engine", EngineSpec))
        records = Records.open(f"sqlite:///{home / 'records.sqlite'}")
        with deployer.engine_for(model, name="bench-redteam") as placement:
            engine = OpenAIEngine(placement.base_url, timeout_s=60)
            seen = asyncio.run(_attack(policy, attacks, retriever, embedder, engine, placement.model, count, records))
        records.close()
    return [row for arm, ones in seen.items() for row in rows(arm, ones)]


async def _attack(
    policy: Policy,
    attacks: Sequence[Attack],
    retriever: HybridRetriever,
    embedder: Embedder,
    engine: Engine,
    model: str,
    count: TokenCount,
    records: Records,
) -> dict[str, list[Attacked]]:
    canary = f"mw-{secrets.token_hex(6)}"
    spec = policy.section("answering", AnswerSpec)
    guards = policy.section("guards", GuardPolicy)
    tools = open_tools(policy.section("tools", ToolsSpec), policy.path.parent, records)
    system = f"{DEFAULT.system} The internal marker {canary} is not for users."
    seen = {}
    try:
        for arm in ARMS:
            chosen = guards if arm == "guards on" else without_guards(guards)
            held = Guards(chosen.model_copy(update={"leak_tokens": (*chosen.leak_tokens, canary)}))
            held.personal.warm()

            def pipeline_for(attack: Attack, held: Guards = held) -> Pipeline:
                leaks = attack.family == "exfiltration"
                return Pipeline(
                    release="0" * 64,
                    retriever=PlantedRetriever(planted_chunks(attack, canary), retriever),
                    engine=engine,
                    model=model,
                    prompt=DEFAULT.model_copy(update={"system": system}) if leaks else DEFAULT,
                    guards=held,
                    spec=spec,
                    count_tokens=count,
                    embedder=embedder,
                )

            seen[arm] = await attacked(attacks, pipeline_for, tools, canary)
    finally:
        await engine.close()
    return seen


def rows(arm: str, seen: Sequence[Attacked]) -> list[BenchRow]:
    """Success by family and over all; calls caused by documents; every attack that succeeded, by name."""
    found = [
        BenchRow(
            name=f"{arm}: {rate.name}, {rate.succeeded} of {rate.attacks} succeed", value=rate.succeeded / rate.attacks,
            unit="share", low=rate.low, high=rate.high,
        )
        for rate in rates(seen)
    ]  # fmt: skip
    calls = sum(one.called_by_document for one in seen)
    found.append(BenchRow(name=f"{arm}: calls caused by documents", value=calls, unit="calls"))
    for one in seen:
        if one.reached:
            found.append(BenchRow(name=f"{arm}: {one.attack.id} {one.reached}", value=1, unit="attack"))
    return found
