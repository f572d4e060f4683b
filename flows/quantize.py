"""Flow: the fine-tuned model at every precision, each measured; what to serve, or to distil instead."""

from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.bundling import bundle, load, measure, merged_model, tuned_release
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.recording import Recording, Summary, recording
from flows.routing import routed
from infra.cost import CostSpec
from infra.errors import InputError, SetupError
from infra.store import ArtifactRef
from models.quantizing.methods import Precision, Quantized, is_served
from models.quantizing.spec import QuantSpec
from models.release import ModelPart, Release
from models.serving.vllm import EngineSpec
from tasks.choosing import choose, recommend_precision
from tasks.policy import StageResult
from tasks.quantizing import Weights, quantize_model, weigh, weights_of
from tasks.releasing import retire_engines

VALIDATION = ["validation"]
"""Splits that choices are made on; the gate's cases decide once, at the end."""


class QuantizeSpec(FinetuneSpec):
    """What a data scientist may change for one sweep; where None stands, the policy file decides."""

    precisions: tuple[Quantized, ...] | None = None
    """Precisions to try beside bf16. None: `quantization.sweep` of the policy file."""


class QuantizeSummary(Summary):
    """The summary, with the table of the sweep and what the rule recommends."""

    decision: str
    """QUANTIZE: serve `precision`. DISTIL: none smaller keeps the quality. UNDECIDED: the cases do not tell."""
    precision: str
    reasons: list[str]
    """The advice, then what decided about each precision."""
    sweep: list[dict[str, Any]]
    """A row a precision."""


def _quantized(run: Recording, precision: Quantized, spec: QuantSpec) -> Release:
    """The release of the merged model at one precision."""
    merged, parent = merged_model(run.results)
    made = run.run(
        quantize_model,
        f"quantize-{precision}",
        merged=merged,
        dataset=run.ref("make-rows", "dataset"),
        precision=precision,
        spec=spec.making(),
    )
    return bundle(run, ModelPart(base=made.refs["model"], precision=precision, parent=parent))


def quantize_stages(run: Recording) -> Release:
    """Quantize, ask the validation cases on the engine, put load on it, choose: the candidate release.

    Its small model joins after the choice of a precision, where the policy wants routing.
    """
    spec = run.policy.section("quantization", QuantSpec)
    releases: dict[Precision, Release] = {"bf16": tuned_release(run)}
    for name in spec.precisions:
        releases[name] = _quantized(run, name, spec)
    scores, loads = {}, {}
    for precision, release in releases.items():
        observations, scores[precision] = measure(run, precision, release, VALIDATION)
        loads[precision] = load(run, precision, release, observations, "quantization_load")
    chosen = run.run(
        choose,
        "choose-precision",
        releases=releases,
        scores=scores,
        loads=loads,
        cases=run.ref("read-cases", "cases"),
        splits=VALIDATION,
        spec=spec,
    )
    kept = releases[next(name for name in releases if name == chosen.params["precision"])]
    retire_engines(run.policy.section("engine", EngineSpec), kept)
    return routed(run, kept)


def sweep_stages(run: Recording, names: Sequence[Quantized]) -> StageResult:
    """Quantize and measure one precision after the other; one that fails is told in the table, and the sweep goes on.

    Engines are stopped as soon as they are measured: ten at once would not fit a small machine.
    """
    sweep = _Sweep(run)
    sweep.look_at(tuned_release(run))
    for name in names:
        try:
            sweep.look_at(_quantized(run, name, sweep.spec))
        except (InputError, SetupError) as error:
            sweep.failures[name] = str(error).splitlines()[0]
    advised = run.run(
        recommend_precision,
        weights=sweep.weights,
        scores=sweep.scores,
        loads=sweep.loads,
        failures=sweep.failures,
        cases=run.ref("read-cases", "cases"),
        splits=VALIDATION,
        spec=sweep.spec,
        price=run.policy.section("cost", CostSpec),
    )
    retire_engines(sweep.engine, tuned_release(run))
    return advised


class _Sweep:
    """What the sweep has measured so far, by precision."""

    def __init__(self, run: Recording) -> None:
        self.run = run
        self.spec = run.policy.section("quantization", QuantSpec)
        self.engine = run.policy.section("engine", EngineSpec)
        self.weights: dict[Precision, Weights] = {}
        self.scores: dict[Precision, ArtifactRef] = {}
        self.loads: dict[Precision, ArtifactRef] = {}
        self.failures: dict[Precision, str] = {}

    def look_at(self, release: Release) -> None:
        """Ask the validation cases, put load on what the engine has a kernel for, weigh; all of it or an error."""
        name, run = release.model.precision, self.run
        observations, scores = measure(run, name, release, VALIDATION)
        found = load(run, name, release, observations, "quantization_load") if is_served(name) else None
        merged, _ = merged_model(run.results)
        weighed = run.run(
            weigh, f"weigh-{name}", release=release, merged=merged, engine=self.engine, spec=self.spec.making()
        )
        retire_engines(self.engine, release if name == "bf16" else tuned_release(run))
        self.weights[name], self.scores[name] = weights_of(weighed), scores
        if found:
            self.loads[name] = found


@flow(name="quantize", description="Quantize the fine-tuned model at every precision, measure each, recommend one.")
def quantize(spec: QuantizeSpec = QuantizeSpec()) -> QuantizeSummary:
    """Every precision measured beside bf16, and what the rule recommends."""
    with recording("quantize", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        named = spec.precisions
        advised = sweep_stages(run, run.policy.section("quantization", QuantSpec).sweep if named is None else named)
        told = [note.removeprefix("- ").strip("*") for note in advised.notes]
        return QuantizeSummary(**run.summary().model_dump(), **advised.params, reasons=told, sweep=advised.table)
