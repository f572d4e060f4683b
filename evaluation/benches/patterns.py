"""Bench: every retrieval pattern on the same questions beside the naive search: what it gains, and what it costs."""

import asyncio
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.benches import BenchRow
from evaluation.benches.retrieving.indexed import BenchIndexes
from evaluation.intervals import mean_interval, ratio_interval
from evaluation.retrieval import retrieval_scores
from indexes.build import load_index
from indexes.hybrid import HybridRetriever, PatternName, RetrievalSpec
from infra.errors import InputError
from infra.processes import ProcessManager
from infra.settings import Policy, Settings
from infra.store import LocalStore
from models.answering.context import token_counter
from models.answering.patterns.choose import pattern_for
from models.answering.patterns.lookup import Writer
from models.answering.patterns.spec import ListwiseSpec, PatternSpec
from models.answering.pipeline import AnswerSpec
from models.base import policy_model
from models.cases import CaseSpec, load_cases
from models.prompts import DEFAULT
from models.serving.deployment import Deployer
from models.serving.engine import OpenAIEngine
from models.serving.vllm import EngineSpec
from models.types import Case

Floats = NDArray[np.float64]
SHARES = {
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "mrr_at_10": "MRR@10",
    "evidence_recall_at_5": "evidence R@5",
}
COSTS = {"searches": "searches/question", "tokens": "tokens/question", "ms": "ms/question"}


class Arm(NamedTuple):
    """One way of searching, over an index that is cut as it needs."""

    name: str
    pattern: PatternName
    patterns: PatternSpec = PatternSpec()
    cut: tuple[tuple[str, str | int], ...] = ()
    """Fields of the chunking that differ from the policy's."""


ARMS = (
    Arm("naive", "naive"),
    Arm("sentence-window", "sentence-window", cut=(("strategy", "sentence-window"),)),
    Arm("parent-child", "parent-child", cut=(("strategy", "parent-child"), ("child_tokens", 40))),
    Arm("graph", "graph"),
    Arm("hyde", "hyde"),
    Arm("multi-query", "multi-query"),
    Arm("self-query, by rule", "self-query"),
    Arm("self-query, by model", "self-query", PatternSpec(filters_by="model")),
    Arm("corrective, graded by words", "corrective"),
    Arm("corrective, graded by model", "corrective", PatternSpec(grade_by="model")),
    Arm("agentic", "agentic"),
    Arm("naive, listwise", "naive", PatternSpec(listwise=ListwiseSpec())),
)
Measured = dict[str, Floats]
"""Values of every question, by the names of SHARES and COSTS."""


def run(settings: Settings) -> list[BenchRow]:
    """Rows of every arm, on the policy's validation cases that name evidence, with its model and its encoder.

    Peer: the naive search for the same question; intervals of the ratio by Fieller, first documents as clusters.

    Raises: InputError without such cases, SetupError where the engine does not start.
    """
    policy = Policy(settings.policy)
    cases = load_cases(policy.section("cases", CaseSpec), policy.path.parent)
    asked = [case for case in cases if case.split == "validation" and case.documents and case.evidence]
    if not asked:
        raise InputError("bench patterns: no validation case names documents and evidence; check cases.files")
    model = policy_model(policy)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        indexes = BenchIndexes(settings, policy, token_counter(model), home)
        shop = _Shop(indexes, policy.section("answering", AnswerSpec).search)
        for arm in ARMS:
            indexes.built(dict(arm.cut))
        own = settings.model_copy(update={"home": home, "engine_kind": "transformers", "engine_url": ""})
        deployer = Deployer(own, LocalStore(home / "store"), ProcessManager(home), policy.section("engine", EngineSpec))
        with deployer.engine_for(model, name="bench-patterns") as placement:
            measured = asyncio.run(_measure(shop, asked, placement.base_url, placement.model))
    clusters = np.unique([case.documents[0] for case in asked], return_inverse=True)[1]
    return rows(measured, clusters)


class _Shop(NamedTuple):
    """Where the retriever of an arm is had."""

    indexes: BenchIndexes
    search: RetrievalSpec

    def open(self, arm: Arm) -> HybridRetriever:
        """A retriever of the arm's own, its encoder too: the vectors that another one has cached save it nothing."""
        spec = RetrievalSpec.model_validate(self.search.model_dump() | {"pattern": arm.pattern})
        return load_index(self.indexes.built(dict(arm.cut)), self.indexes.open_embedder(), spec)


async def _measure(shop: _Shop, cases: Sequence[Case], url: str, model: str) -> dict[str, Measured]:
    """Every question through every arm, one after another, so that times are of one question alone."""
    engine = OpenAIEngine(url, timeout_s=60)
    writer = Writer(engine, model, DEFAULT, shop.indexes.count)
    try:
        return {arm.name: await _measure_arm(shop.open(arm), arm, cases, writer) for arm in ARMS}
    finally:
        await engine.close()


async def _measure_arm(retriever: HybridRetriever, arm: Arm, cases: Sequence[Case], writer: Writer) -> Measured:
    pattern = pattern_for(retriever.spec, retriever, arm.patterns, writer)
    await pattern.retrieve("Is everything loaded?", retriever.labels)
    seen: list[dict[str, float]] = []
    for case in cases:
        begin = time.perf_counter()
        found = await pattern.retrieve(case.question, retriever.labels)
        spent = {"ms": (time.perf_counter() - begin) * 1000, "searches": float(found.searches)}
        tokens = found.prompt_tokens + found.completion_tokens
        seen.append(retrieval_scores(found.passages, case) | spent | {"tokens": float(tokens)})
    return {name: np.array([one[name] for one in seen]) for name in (*SHARES, *COSTS)}


def rows(measured: dict[str, Measured], clusters: NDArray[np.int64]) -> list[BenchRow]:
    """The naive search with the interval of its means, then every other arm beside it; tokens have no peer."""
    units = {**dict.fromkeys(SHARES, "share"), **COSTS}
    named = {**SHARES, **{name: unit.split("/")[0] for name, unit in COSTS.items()}}
    found = []
    for arm, values in measured.items():
        for name, unit in units.items():
            peer = None if arm == "naive" or name == "tokens" else measured["naive"][name]
            found.append(_row(f"{arm}: {named[name]}", unit, values[name], peer, clusters))
    return found


def _row(name: str, unit: str, own: Floats, peer: Floats | None, clusters: NDArray[np.int64]) -> BenchRow:
    value = round(float(own.mean()), 4)
    if peer is None:
        mean = mean_interval(own, clusters)
        return BenchRow(name=name, value=value, unit=unit, low=mean.low, high=mean.high)
    ratio = ratio_interval(own, peer, clusters)
    bounded = math.isfinite(ratio.low) and math.isfinite(ratio.high)
    return BenchRow(
        name=name, value=value, unit=unit, peer="naive", peer_value=round(float(peer.mean()), 4), ratio=ratio.mean,
        low=ratio.low if bounded else None, high=ratio.high if bounded else None,
    )  # fmt: skip
