"""Puts releases together from what a run has made, and measures one; shared by the flows that need it."""

from collections.abc import Mapping

from evaluation.load import LoadSpec
from evaluation.metrics import JUDGE_VERSION
from flows.recording import Recording
from indexes.embedder import EmbedSpec
from indexes.rerankers import pinned
from infra.cost import CostSpec
from infra.errors import InputError
from infra.store import ArtifactRef, code_version
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec
from models.release import ModelPart, Release
from models.serving.deployment import Placement
from models.serving.vllm import EngineSpec
from tasks.measuring import AskSpec, ask_endpoint, ask_release, load_engine, score_answers
from tasks.policy import StageResult
from tasks.training import ModelSpec, take_model

REQUEST_PATH = ("indexes", "models/answering", "models/prompts.py", "models/marks.py", "models/serving/gateway.py")
"""Code that shapes an answer: its version is part of every release."""


def bundle(run: Recording, model: ModelPart) -> Release:
    """The release of `model` with the prompt, index, retrieval and guards of this run."""
    return Release(
        model=model,
        prompt=run.ref("take-prompt", "prompt"),
        index=run.ref("build", "index"),
        retrieval=_answering(run).model_dump(mode="json"),
        guards=run.policy.section("guards", GuardPolicy).model_dump(mode="json"),
        judge=JUDGE_VERSION,
        code=code_version(*REQUEST_PATH),
    )


def _answering(run: Recording) -> AnswerSpec:
    """The request path with the encoder that the index was built with and the weights that rerank now."""
    answering = run.policy.section("answering", AnswerSpec)
    search, root = answering.search, run.policy.path.parent.resolve()
    if search.rerank:
        search = search.model_copy(update={"rerank": pinned(search.rerank, root)})
    return answering.model_copy(update={"embedding": run.policy.section("embedding", EmbedSpec), "search": search})


def starter_release(run: Recording) -> Release:
    """The release of the base model as it is."""
    return bundle(run, ModelPart(base=run.ref("take-model", "model")))


def small_release(run: Recording, name: str) -> Release:
    """The release of the small model of routing: in all but the model it is the large one's."""
    model = ModelSpec(base=name)
    taken = run.run(take_model, "take-small", model=model.source(run.policy), content=model.content(run.policy))
    return bundle(run, ModelPart(base=taken.refs["model"]))


def tuned_release(run: Recording) -> Release:
    """The fine-tuned release at full precision."""
    return bundle(run, tuned_part(run.results))


def tuned_part(results: Mapping[str, StageResult]) -> ModelPart:
    """The fine-tuned model as its method is served.

    lora, qlora and prefix: the base with the adapter. After preference optimization: the merged fine-tuned model with
    the new adapter. full and ia3: the merged model alone (vLLM serves no IA3); its parent is what it was made from.
    """
    tuned = results["finetune-adapter"]
    if "prefer-adapter" in results:
        return ModelPart(base=tuned.refs["merged"], adapter=results["prefer-adapter"].refs["adapter"])
    if tuned.params["method"] in ("full", "ia3"):
        merged, parent = merged_model(results)
        return ModelPart(base=merged, parent=parent)
    return ModelPart(base=results["take-model"].refs["model"], adapter=tuned.refs["adapter"])


def merged_model(results: Mapping[str, StageResult]) -> tuple[ArtifactRef, str]:
    """The fine-tuned model as one folder, and the digest of what it was made from: its adapter, else its rows.

    Raises: InputError for prefix tuning, which no weight can hold.
    """
    last = results.get("prefer-adapter") or results["finetune-adapter"]
    if "merged" not in last.refs:
        raise InputError(
            f"training.method {last.params['method']} leaves no merged model: it can be neither quantized nor served"
            " without its adapter; set quantization.precisions to [], or take another method"
        )
    made_from = last.refs.get("adapter") or results["make-rows"].refs["dataset"]
    return last.refs["merged"], made_from.digest


def measure(
    run: Recording, label: str, release: Release, splits: list[str], at: Placement | None = None
) -> tuple[ArtifactRef, ArtifactRef]:
    """Ask the cases of `splits` and score the answers: (observations, scores). `at`: of a model that others serve."""
    policy = run.policy
    embedding = policy.section("embedding", EmbedSpec)
    asked = {"release": release, "cases": run.ref("read-cases", "cases"), "splits": splits, "embedding": embedding}
    asked["spec"] = policy.section("asking", AskSpec)
    if at is None:
        made = run.run(ask_release, f"ask-{label}", engine=policy.section("engine", EngineSpec), **asked)
    else:
        made = run.run(ask_endpoint, f"ask-{label}", at=at, **asked)
    observations = made.refs["observations"]
    scores = run.run(
        score_answers,
        f"score-{label}",
        observations=observations,
        embedding=embedding,
        guards=policy.section("guards", GuardPolicy),
        price=policy.section("cost", CostSpec),
    ).refs["scores"]
    return observations, scores


def load(run: Recording, label: str, release: Release, observations: ArtifactRef, section: str) -> ArtifactRef:
    """Put load on the engine of a release with the prompts behind `observations`; the load report."""
    return run.run(
        load_engine,
        f"load-{label}",
        release=release,
        observations=observations,
        engine=run.policy.section("engine", EngineSpec),
        spec=run.policy.section(section, LoadSpec),
    ).refs["load"]
