"""Flow: the fine-tuned model at every precision, each served by the engine and measured, and the choice among them."""

from typing import Literal

from prefect import flow

from flows.bundling import bundle, load, measure, merged_model, tuned_release
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.recording import Recording, Summary, recording
from models.quantize import QuantSpec
from models.release import ModelPart, Precision, Release
from models.serving.vllm import EngineSpec
from tasks.choosing import choose
from tasks.releasing import retire_engines
from tasks.training import quantize_model

Quantized = Literal["w8a8", "w4a16"]
VALIDATION = ["validation"]
"""Splits that choices are made on; the gate's cases decide once, at the end."""


def _quantized(run: Recording, precision: Quantized, spec: QuantSpec) -> Release:
    """The release of the merged model at one precision."""
    merged, parent = merged_model(run.results)
    rows = run.ref("make-rows", "dataset")
    made = run.run(quantize_model, f"quantize-{precision}", merged=merged, dataset=rows, precision=precision, spec=spec)
    return bundle(run, ModelPart(base=made.refs["model"], precision=precision, parent=parent))


def quantize_stages(run: Recording) -> Release:
    """Quantize, ask the validation cases on the engine, put load on it, choose: the candidate release."""
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
    return kept


@flow(name="quantize", description="Quantize the fine-tuned model, measure every precision on the engine, choose one.")
def quantize(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """Every precision measured beside bf16, and the rule's choice."""
    with recording("quantize", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        quantize_stages(run)
        return run.summary()
