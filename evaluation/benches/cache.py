"""Bench: the answer cache: false hits beside their bound, hits, time of a look-up, and the engine's prefix cache."""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from evaluation.benches import BenchRow
from evaluation.benches.engine import case_prompts
from evaluation.cache_calibration import Hits, JudgedPair, QuestionPair, hits_at
from evaluation.loading.prompts import LoadPrompt
from evaluation.question_pairs import judge, load_pairs
from indexes.embedder import EmbedSpec, open_embedder
from indexes.types import Embedder, Vectors
from infra.errors import SetupError
from infra.processes import ProcessManager
from infra.settings import ROOT, Policy, Settings
from infra.store import LocalStore
from models.base import policy_model
from models.cases import CaseSpec, load_cases
from models.serving.cache.answers import AnswerCache
from models.serving.cache.entries import Place, entry_of
from models.serving.cache.questions import packed
from models.serving.cache.spec import CacheSpec
from models.serving.cache.store import MemoryStore
from models.serving.deployment import Deployer
from models.serving.engine import OpenAIEngine
from models.serving.vllm import EngineSpec, vllm_build
from models.types import Answer, Citation, Sampling

PAIRS = ROOT / "infra" / "sample" / "cases" / "cache_pairs.jsonl"
ENTRIES = 10_000
LOOK_UPS = 2000
ALPHA = 0.05
QQP = 2000
"""Pairs of the outside set that are judged."""


def run(settings: Settings) -> list[BenchRow]:
    """False hits on the sample's test pairs and on QQP where it lies there, look-ups among ENTRIES answers, and cached
    prompt tokens of vLLM where it is installed.

    Raises: SetupError where the policy has no semantic cache.
    """
    policy = Policy(settings.policy)
    spec = policy.section("cache", CacheSpec)
    if spec.semantic is None:
        raise SetupError(f"{settings.policy}: cache.semantic is off; run sluice calibrate-cache")
    embedder = open_embedder(policy.section("embedding", EmbedSpec))
    rows = _pair_rows(spec.semantic.threshold, spec.semantic.max_false_hit_rate, embedder, settings.corpora)
    rows += asyncio.run(_time_rows(spec, embedder))
    if vllm_build(settings):
        rows += _prefix_rows(settings, policy)
    return rows


def _pair_rows(threshold: float, bound: float, embedder: Embedder, corpora: Path) -> list[BenchRow]:
    sets = {"test pairs": [pair for pair in load_pairs(PAIRS) if pair.split == "test"]}
    if (corpora / "qqp" / "pairs.jsonl").is_file():
        sets["QQP"] = _qqp(corpora / "qqp" / "pairs.jsonl")
    rows = []
    for name, pairs in sets.items():
        judged = judge(pairs, embedder)
        bare = [one.model_copy(update={"veto": ""}) for one in judged]
        for how, those in (("", judged), (", without vetoes", bare)):
            rows += _hit_rows(f"{name}{how}", hits_at(those, threshold, ALPHA), bound if name == "test pairs" else None)
        rows.append(_split_row(name, judged, threshold))
    return rows


def _qqp(path: Path) -> list[QuestionPair]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:QQP]]
    return [QuestionPair(a=row["text_a"], b=row["text_b"], same=bool(row["label"])) for row in rows]


def _hit_rows(name: str, hits: Hits, bound: float | None) -> list[BenchRow]:
    rate = BenchRow(
        name=f"{name}: false hits among {hits.hits} hits",
        value=hits.rate,
        unit="share",
        peer="stated bound" if bound else "",
        peer_value=bound,
        ratio=hits.rate / bound if bound else None,
        low=None if bound else hits.low,
        high=None if bound else hits.high,
    )
    ends = [
        BenchRow(name=f"{name}: false hits, upper end of the exact 95 % interval", value=hits.high, unit="share"),
        BenchRow(name=f"{name}: hits among {hits.same} pairs that mean the same", value=hits.hit_rate, unit="share"),
    ]
    return [rate, *ends]


def _split_row(name: str, judged: Sequence[JudgedPair], threshold: float) -> BenchRow:
    near = [one for one in judged if not one.pair.same and one.similarity >= threshold]
    caught = sum(bool(one.veto) for one in near)
    share = caught / len(near) if near else 0.0
    return BenchRow(name=f"{name}: similar pairs of other meaning that a veto keeps apart", value=share, unit="share")


async def _time_rows(spec: CacheSpec, embedder: Embedder) -> list[BenchRow]:
    """Look-ups in a full cache of one scope: the worst case for the comparison of vectors."""
    spec = spec.model_copy(update={"max_entries": ENTRIES, "max_mib": 1024})
    store = MemoryStore(spec)
    cache = AnswerCache(spec, store, str, CollectorRegistry())
    random = np.random.default_rng(7)
    places = [Place("s" * 64, f"{number:064x}") for number in range(ENTRIES)]
    for place in places:
        await store.put(place, entry_of(_answer(), place, time.time(), packed(_unit(random, embedder.dimension))))
    questions = list(dict.fromkeys(pair.a for pair in load_pairs(PAIRS)))
    begin = time.perf_counter()
    for question in questions:
        embedder.query(question)
    embed_ms = (time.perf_counter() - begin) * 1000 / len(questions)
    picked = random.integers(ENTRIES, size=LOOK_UPS)
    exact = await _times(lambda number: cache.exact(places[picked[number]]), LOOK_UPS)
    semantic = await _times(
        lambda number: cache.semantic(places[0], questions[number % len(questions)], embedder), len(questions)
    )
    rows = [
        BenchRow(
            name=f"{kind} look-up among {ENTRIES} answers, P{share}",
            value=float(np.quantile(ms, share / 100)),
            unit="ms",
        )
        for kind, ms in (("exact", exact), ("semantic", semantic))
        for share in (50, 99)
    ]
    return [
        *rows,
        BenchRow(name="embedding of a question, which the retrieval needs anyway", value=embed_ms, unit="ms"),
    ]


async def _times(call: Callable[[int], Awaitable[object]], count: int) -> list[float]:
    taken = []
    for number in range(count):
        begin = time.perf_counter()
        await call(number)
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def _unit(random: np.random.Generator, dimension: int) -> Vectors:
    vector = random.normal(size=dimension).astype(np.float32)
    unit: Vectors = vector / np.linalg.norm(vector)
    return unit


def _answer() -> Answer:
    passage = Citation(number=1, document="d", chunk="c", title="Guide", text="The appeal period is 14 days. " * 15)
    return Answer(
        question="What is the appeal period?", answer="14 days", citations=(passage,), refused=False, release="a" * 64,
        trace_id="f" * 32, latency_ms=1.0, passages=(passage,),
    )  # fmt: skip


def _prefix_rows(settings: Settings, policy: Policy) -> list[BenchRow]:
    """Prompt tokens that vLLM took from its prefix cache: each prompt of the sample once, then once more."""
    prompts = case_prompts(load_cases(policy.section("cases", CaseSpec), policy.path.parent))
    with tempfile.TemporaryDirectory() as home:
        own = settings.model_copy(update={"home": Path(home), "engine_kind": "vllm", "engine_url": ""})
        store, manager = LocalStore(Path(home) / "store"), ProcessManager(Path(home))
        deployer = Deployer(own, store, manager, policy.section("engine", EngineSpec))
        with deployer.engine_for(policy_model(policy), name="bench-cache") as placement:
            first, again = (asyncio.run(_cached(placement.base_url, placement.model, prompts)) for _ in range(2))
    return [
        BenchRow(name="prompt tokens from vLLM's prefix cache, questions asked once", value=first, unit="share"),
        BenchRow(name="prompt tokens from vLLM's prefix cache, the same asked again", value=again, unit="share"),
    ]


async def _cached(url: str, model: str, prompts: Sequence[LoadPrompt]) -> float:
    engine = OpenAIEngine(url, timeout_s=60)
    done = [await engine.complete(model, prompt.messages, Sampling(4)) for prompt in prompts]
    await engine.close()
    return sum(one.cached_tokens for one in done) / sum(one.prompt_tokens for one in done)
