"""What the bench measures, in turn: latencies in alternating rounds, largest rates, memory, and a real engine."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from evaluation.benches import BenchRow
from evaluation.benches.gatewaying.driving import QUESTION, Told, closed_load, largest_rate, open_load
from evaluation.benches.gatewaying.peers import Field, Target
from evaluation.benches.gatewaying.rows import added_rows, engine_row, peer_rows, rate_row
from evaluation.load import LoadReport, LoadSpec
from evaluation.loading.generator import run_load
from evaluation.loading.prompts import LoadPrompt, plain
from infra.errors import SetupError
from infra.process_group import group_members, resident_bytes
from infra.processes import ProcessManager
from infra.settings import Settings
from infra.store import LocalStore
from models.base import STARTER_FOLDER
from models.serving.deployment import Deployer
from models.serving.vllm import EngineSpec, vllm_build
from models.types import Message

PROGRESS = logging.getLogger("sluice.progress")
RATE_PER_S = 100.0
ROUNDS, ROUND_S = 3, 4.0
WARM_UP = 300
GROWN_OVER, GROWN_AFTER, GROWN_AT_ONCE = 50_000, 10_000, 8
IDLE_TRIES, IDLE_LOOK_S, IDLE_SHARE = 60, 1.0, 0.1
"""How often and for how long it is looked whether the gateways are idle; the share of a core that idle ones take."""
ENGINE_ROUNDS = 6
ENGINE_LOAD = LoadSpec(requests=128, warmup=0, concurrency=32, max_tokens=32, timeout_s=300)
SUSTAINED = 0.8
"""Share of the largest rate kept for seconds that is asked of it for minutes, in which others use the machine, too."""
SAME_WORK = 0.1
"""By how much the tokens of a round may differ, gateway and engine: a guard that ends answers would make it idle."""


@contextmanager
def field(settings: Settings) -> Iterator[Field]:
    """The processes of a run, this one on the core of the load; all end with the block."""
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        made = Field(settings, Path(name))
        os.sched_setaffinity(0, {made.load_core})
        try:
            yield made
        finally:
            made.stop()
            os.sched_setaffinity(0, before)


def until_idle(pids: Sequence[int]) -> None:
    """Return when these processes hardly use their core: a gateway that was overrun goes on behind its last answer."""
    for _ in range(IDLE_TRIES):
        before = cpu_s(pids)
        time.sleep(IDLE_LOOK_S)
        if cpu_s(pids) - before < IDLE_SHARE * IDLE_LOOK_S:
            return
    PROGRESS.info("a gateway is not idle after %.0f s; what follows shares its core", IDLE_TRIES * IDLE_LOOK_S)


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds of processor time that processes and those they started have taken."""
    return sum(sum(member.cpu_times()[:2]) for pid in pids for member in family(pid))


def latency_rows(direct: Target, ours: Target, peers: Sequence[Target], pids: Sequence[int]) -> list[BenchRow]:
    """Rounds at one rate; who begins moves on, so that a machine that speeds up or slows down favours nobody.

    Nobody begins before the gateways, processes `pids`, are idle.
    """
    targets = [direct, ours, *peers]
    for target in targets:
        closed_load(target, 4, WARM_UP)
    rounds: list[dict[str, Told]] = []
    for number in range(ROUNDS):
        turn = [*targets[number % len(targets) :], *targets[: number % len(targets)]]
        found = {}
        for one in turn:
            until_idle(pids)
            found[one.name] = open_load(one, RATE_PER_S, ROUND_S, first=10_000 * (number + 1))
        rounds.append(found)
        PROGRESS.info(
            "round %d: %s",
            number + 1,
            ", ".join(f"{name} {one.quantile(0.5):.1f} / {one.quantile(0.99):.1f} ms" for name, one in found.items()),
        )
    return added_rows(rounds) + [row for peer in peers for row in peer_rows(rounds, peer.name)]


def rate_rows(ours: Target, peers: Sequence[Target], pids: Sequence[int]) -> list[BenchRow]:
    """The largest rates, ours first; each is searched while the gateways, processes `pids`, do nothing else."""
    rates = []
    for target in (ours, *peers):
        until_idle(pids)
        rates.append(largest_rate(target, 100_000, PROGRESS.info))
    return [rate_row(peer.name, rates[0], rate) for peer, rate in zip(peers, rates[1:], strict=True)]


def memory_row(ours: Target, pid: int) -> BenchRow:
    """Resident memory after many requests less that after the warm-up. Raises: SetupError where requests failed."""
    before = 0.0
    for count in (GROWN_AFTER, GROWN_OVER):
        before = resident_mib(pid) if count == GROWN_OVER else before
        told = closed_load(ours, GROWN_AT_ONCE, count, first=1_000_000 + count)
        if told.errors:
            raise SetupError(f"bench gateway: {len(told.errors)} of our requests failed: {told.errors[0]}")
    after = resident_mib(pid)
    PROGRESS.info("memory: %.1f MiB after %d requests, %.1f after %d more", before, GROWN_AFTER, after, GROWN_OVER)
    return BenchRow(name="memory_growth_mib", value=after - before, unit=f"MiB over {GROWN_OVER} requests")


def resident_mib(pid: int) -> float:
    """Resident memory of a process and of those it started."""
    return sum(resident_bytes(member) for member in family(pid)) / 2**20


def family(pid: int) -> list[psutil.Process]:
    """A process and those it started."""
    return group_members(pid, psutil.Process(pid).create_time())


def engine_rows(settings: Settings, made: Field) -> list[BenchRow]:
    """`engine_ratio` twice: with a core that gateway and load leave to the engine, as they leave a GPU to it; and with
    all of them on both cores. Raises: SetupError without vLLM.
    """
    if not vllm_build(settings):
        raise SetupError(f"{settings.engine_python}: no vLLM to measure; run make setup")
    both = {made.gateway_core, made.load_core}
    return [
        _engine_row(settings, made, "engine_ratio", {made.gateway_core}, {made.load_core}),
        _engine_row(settings, made, "engine_ratio, cores shared", both, both),
    ]


def _engine_row(settings: Settings, made: Field, name: str, engine_cores: set[int], cores: set[int]) -> BenchRow:
    """Alternating rounds on one vLLM on `engine_cores`, the gateway and the load on `cores`."""
    own = settings.model_copy(update={"home": made.place, "engine_kind": "vllm", "engine_url": ""})
    spec = EngineSpec(max_model_len=1024, max_num_seqs=ENGINE_LOAD.concurrency, lora=None)
    deployer = Deployer(own, LocalStore(made.place / "store"), ProcessManager(made.place), spec)
    asked = [QUESTION.format(number=number) for number in range(ENGINE_LOAD.requests)]
    prompts = plain([[Message(role="user", content=text)] for text in asked])
    os.sched_setaffinity(0, engine_cores)  # what a process starts with
    with deployer.engine_for(STARTER_FOLDER, name="bench-gateway") as placement:
        os.sched_setaffinity(0, cores)
        engine = Target("vLLM", placement.base_url, placement.model)
        ours = made.start_ours(f"before-{len(engine_cores)}", placement.base_url, placement.model, pinned=False)
        pairs = []
        for number in range(ENGINE_ROUNDS + 1):
            turn = (ours, engine) if number % 2 else (engine, ours)
            found = {one.name: _load_engine(one, prompts) for one in turn}
            through, direct = found["ours"], found["vLLM"]
            if abs(through.completion_tokens / direct.completion_tokens - 1) > SAME_WORK:
                tokens = f"{through.completion_tokens} and {direct.completion_tokens} tokens"
                raise SetupError(f"bench gateway: {tokens} through the gateway and direct: not the same work")
            pairs.append((through.output_tokens_per_s, direct.output_tokens_per_s))
        made.manager.stop(f"before-{len(engine_cores)}")
    PROGRESS.info(
        "%s, tokens/s through the gateway and direct: %s", name, ", ".join(f"{a:.0f}/{b:.0f}" for a, b in pairs)
    )
    return engine_row(name, pairs[1:])  # the first round fills the engine's prefix cache


def _load_engine(target: Target, prompts: Sequence[LoadPrompt]) -> LoadReport:
    report: LoadReport = run_load(target.base_url, target.model, prompts, ENGINE_LOAD, api_key=target.key)
    if report.errors or report.stopped:
        raise SetupError(f"bench gateway: requests to {target.name} failed: {report.errors}")
    return report


def steady_rows(settings: Settings, seconds: float) -> list[BenchRow]:
    """Our gateway near its largest rate for a long time: requests, errors, latency, growth of memory."""
    with field(settings) as made:
        made.start_upstream()
        ours = made.start_ours()
        closed_load(ours, 4, WARM_UP)
        rate = SUSTAINED * largest_rate(ours, 100_000, PROGRESS.info)
        open_load(ours, rate, 30, first=500_000)
        before = resident_mib(made.pid("ours"))
        told = open_load(ours, rate, seconds, first=1_000_000)
        growth = resident_mib(made.pid("ours")) - before
    name = f"steady, {seconds:.0f} s at {rate:.0f} requests/s"
    return [
        BenchRow(name=f"{name}: errors", value=len(told.errors), unit="requests"),
        BenchRow(name=f"{name}: answers", value=len(told.latencies_ms), unit="requests"),
        BenchRow(name=f"{name}: P99", value=told.quantile(0.99), unit="ms"),
        BenchRow(name=f"{name}: memory growth", value=growth, unit="MiB"),
    ]
