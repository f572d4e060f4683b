"""Rows of the load generator: the same load on the same engine by it and by `vllm bench serve`, in turn."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from evaluation.benches import BenchRow
from evaluation.load import LoadReport, LoadSpec
from evaluation.loading.generator import run_load
from evaluation.loading.prompts import Lengths, LoadPrompt, RandomSpec, random_prompts
from infra.errors import SetupError
from infra.processes import ProcessManager
from infra.settings import Settings
from infra.store import LocalStore, write_atomic
from models.base import STARTER_FOLDER
from models.serving.deployment import Deployer, Placement
from models.serving.vllm import Build, EngineSpec, engine_environment, vllm_build

SCRIPT = Path(__file__).with_name("served.py")
ROUNDS = 20
"""Measured rounds of each, a second or two each; one more before them fills the prefix cache for both alike."""
LOAD = LoadSpec(requests=96, warmup=0, concurrency=4, max_tokens=32, ignore_eos=True, timeout_s=300)
"""So few in flight that a generator takes little time from the engine: on two cores it measures itself otherwise."""
CROWD = LOAD.model_copy(update={"requests": 128, "concurrency": 64})
"""Sixty-four in flight: what the generator itself costs."""
PROMPTS = RandomSpec(
    prompts=128,
    input=Lengths(kind="lognormal", mean=200, spread=0.5, low=20, high=600),
    output=Lengths(mean=LOAD.max_tokens),
)
ENGINE = EngineSpec(max_model_len=1024, max_num_seqs=CROWD.concurrency, lora=None)
PEER = "vllm bench serve"
PROMPT_FILE = "prompts.json"
"""In the form of ShareGPT: the custom data set would need pandas, which the engine's environment lacks."""


@dataclass(frozen=True)
class Told:
    """What one run of either generator says."""

    tokens_per_s: float
    ttft_p95_ms: float
    e2e_p95_ms: float
    cpu_share: float
    """CPU time of the generator by time measured: of one core."""


def loading_rows(settings: Settings) -> list[BenchRow]:
    """`load_tokens_ratio` and `load_p95_ratio` with 95 % intervals over paired rounds, then the CPU of each at 64.

    Raises: SetupError where vLLM is missing, does not end a benchmark, or a request failed.
    """
    if not (build := vllm_build(settings)):
        raise SetupError(f"{settings.engine_python}: no vLLM to compare with; run make setup")
    prompts = random_prompts(PROMPTS, STARTER_FOLDER)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        own = settings.model_copy(update={"home": place, "engine_kind": "vllm", "engine_url": ""})
        deployer = Deployer(own, LocalStore(place / "store"), ProcessManager(place), ENGINE)
        with deployer.engine_for(STARTER_FOLDER, name="bench-load") as placement, _Peer(settings, build, place) as peer:
            return rows(*_measured(placement, prompts, peer))


def _measured(
    placement: Placement, prompts: Sequence[LoadPrompt], peer: "_Peer"
) -> tuple[list[tuple[Told, Told]], tuple[Told, Told]]:
    """(rounds of ours and theirs, one pair at 64 in flight). Who begins alternates."""
    pairs = []
    for number in range(ROUNDS + 1):
        begins = number % 2 == 0
        ours = _ours(placement, prompts, LOAD) if begins else None
        theirs = peer.run(placement, prompts, LOAD)
        pairs.append((ours or _ours(placement, prompts, LOAD), theirs))
    return pairs[1:], (_ours(placement, prompts, CROWD), peer.run(placement, prompts, CROWD))


def _ours(placement: Placement, prompts: Sequence[LoadPrompt], spec: LoadSpec) -> Told:
    return told(run_load(placement.base_url, placement.model, prompts, spec))


def told(report: LoadReport) -> Told:
    """Our figures. Raises SetupError for a run with failed requests: numbers beside failures mean nothing."""
    if report.errors or report.stopped or not report.ttft_ms or not report.e2e_ms or report.generator_cpu_share is None:
        raise SetupError(f"bench models: requests of the load failed: {report.errors}")
    return Told(
        tokens_per_s=report.output_tokens_per_s,
        ttft_p95_ms=report.ttft_ms.p95,
        e2e_p95_ms=report.e2e_ms.p95,
        cpu_share=report.generator_cpu_share,
    )


class _Peer:
    """`vllm bench serve` in a process of its own that stays between runs."""

    def __init__(self, settings: Settings, build: Build, place: Path) -> None:
        self._place = place
        self._log = (place / "peer.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [settings.engine_python, SCRIPT],
            env=engine_environment(settings, build) | {"PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> "_Peer":
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def run(self, placement: Placement, prompts: Sequence[LoadPrompt], spec: LoadSpec) -> Told:
        """The same prompts in the same order at the same concurrency."""
        turns = [[prompt.messages[0].content, ""] for prompt in prompts[: spec.requests]]
        asked = [{"conversations": [{"value": text} for text in texts]} for texts in turns]
        write_atomic(self._place / PROMPT_FILE, json.dumps(asked))
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.write(json.dumps(self._arguments(placement, spec)) + "\n")
        self._process.stdin.flush()
        cpu_s = self._cpu_s()
        result = json.loads((self._place / "peer.json").read_text("utf-8"))
        tokens, wanted = result["total_output_tokens"], spec.requests * spec.max_tokens
        if tokens != wanted:
            raise SetupError(
                f"bench models: {PEER} got {tokens} tokens where {wanted} were asked for: not the same load"
            )
        return Told(
            tokens_per_s=result["output_throughput"],
            ttft_p95_ms=result["p95_ttft_ms"],
            e2e_p95_ms=result["p95_e2el_ms"],
            cpu_share=cpu_s / result["duration"],
        )

    def _arguments(self, placement: Placement, spec: LoadSpec) -> list[str]:
        asked = {
            "--backend": "openai-chat",
            "--base-url": placement.base_url,
            "--endpoint": "/v1/chat/completions",
            "--model": placement.model,
            "--tokenizer": str(STARTER_FOLDER),
            "--dataset-name": "sharegpt",
            "--dataset-path": str(self._place / PROMPT_FILE),
            "--sharegpt-output-len": str(spec.max_tokens),
            "--num-prompts": str(spec.requests),
            "--max-concurrency": str(spec.concurrency),
            "--temperature": "0",
            "--percentile-metrics": "ttft,e2el",
            "--metric-percentiles": "95",
            "--ready-check-timeout-sec": "0",
            "--result-dir": str(self._place),
            "--result-filename": "peer.json",
        }
        switches = ["--ignore-eos", "--disable-shuffle", "--disable-tqdm", "--save-result"]
        return [part for pair in asked.items() for part in pair] + switches

    def _cpu_s(self) -> float:
        """Wait for the run's end: the CPU time that it cost. Raises SetupError where the process has died."""
        assert self._process.stdout is not None, "opened as a pipe"
        for line in self._process.stdout:
            if line.startswith("== "):
                return float(line.removeprefix("== "))
        self._log.seek(0)
        raise SetupError(f"bench models: {PEER} ended: {self._log.read()[-1500:]}")


def _ratio(values: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Median of ours / theirs over rounds, with its 95 % interval from order statistics (the sign test's).

    Medians, because what else runs on the machine hits single rounds of either.
    """
    ratios = np.sort([ours / theirs for ours, theirs in values])
    rank = max(0, int(stats.binom.ppf(0.025, len(ratios), 0.5)) - 1)
    return float(np.median(ratios)), float(ratios[rank]), float(ratios[len(ratios) - 1 - rank])


def _compared(name: str, unit: str, values: Sequence[tuple[float, float]]) -> BenchRow:
    ours, theirs = (float(np.median(side)) for side in zip(*values, strict=True))
    ratio, low, high = _ratio(values)
    return BenchRow(name=name, value=ours, unit=unit, peer=PEER, peer_value=theirs, ratio=ratio, low=low, high=high)


def rows(rounds: Sequence[tuple[Told, Told]], crowd: tuple[Told, Told]) -> list[BenchRow]:
    """The rows of measured rounds (ours, theirs) and of the pair at 64 in flight."""
    shares = [one.cpu_share for one in crowd]
    return [
        _compared("load_tokens_ratio", "tokens/s", [(one.tokens_per_s, two.tokens_per_s) for one, two in rounds]),
        _compared("load_p95_ratio", "ms", [(one.e2e_p95_ms, two.e2e_p95_ms) for one, two in rounds]),
        _compared("load_ttft_p95_ratio", "ms", [(one.ttft_p95_ms, two.ttft_p95_ms) for one, two in rounds]),
        BenchRow(
            name="load_generator_cpu, 64 in flight on vLLM",
            value=shares[0],
            unit="of a core",
            peer=PEER,
            peer_value=shares[1],
            ratio=shares[0] / shares[1],
        ),
    ]
