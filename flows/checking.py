"""Checks a whole policy file before a run begins: every section by its spec, so that nothing fails half-way."""

from evaluation.advice import AdvicePolicy
from evaluation.canary import CanaryPolicy
from evaluation.forgetting import ForgettingSpec
from evaluation.gate import GatePolicy
from evaluation.load import LoadSpec
from evaluation.loading.benchmark import BenchmarkSpec
from evaluation.routing import RoutingPolicy
from evaluation.tuning import TuneSpec
from indexes.build import IndexSpec
from indexes.chunkers.spec import ChunkSpec
from indexes.embedder import EmbedSpec
from indexes.hybrid import WITH_PARENTS
from indexes.loaders.spec import CorpusSpec
from indexes.validation import ValidationSpec
from indexes.vectors.choose import IndexNeed
from infra.cost import CostSpec
from infra.errors import PolicyError
from infra.settings import Policy, Spec
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec
from models.answering.tools.accounts import open_accounts
from models.answering.tools.spec import ToolsSpec
from models.base import is_hub_id
from models.cases import CaseSpec
from models.quantizing.spec import QuantSpec
from models.serving.answerer import GatewaySpec
from models.serving.cache.spec import CacheSpec
from models.serving.vllm import EngineSpec
from models.tracing.spec import TraceSpec
from models.training.data_spec import DataSpec
from models.training.difficulty import DifficultySpec
from models.training.distill_spec import DistillSpec
from models.training.spec import TrainSpec
from tasks.measuring import AskSpec
from tasks.releasing import NightSpec
from tasks.reranking import RerankerSpec
from tasks.training import ModelSpec

SECTIONS: dict[str, type[Spec]] = {
    "model": ModelSpec,
    "corpus": CorpusSpec,
    "validation": ValidationSpec,
    "cases": CaseSpec,
    "traffic": CaseSpec,
    "chunking": ChunkSpec,
    "embedding": EmbedSpec,
    "index": IndexSpec,
    "index_need": IndexNeed,
    "answering": AnswerSpec,
    "guards": GuardPolicy,
    "tuning": TuneSpec,
    "reranker": RerankerSpec,
    "training_data": DataSpec,
    "training": TrainSpec,
    "forgetting": ForgettingSpec,
    "quantization": QuantSpec,
    "quantization_load": LoadSpec,
    "benchmark": BenchmarkSpec,
    "distillation": DistillSpec,
    "distillation_load": LoadSpec,
    "engine": EngineSpec,
    "gateway": GatewaySpec,
    "cache": CacheSpec,
    "asking": AskSpec,
    "gate": GatePolicy,
    "canary": CanaryPolicy,
    "night": NightSpec,
    "traces": TraceSpec,
    "difficulty": DifficultySpec,
    "routing": RoutingPolicy,
    "advice": AdvicePolicy,
    "cost": CostSpec,
    "tools": ToolsSpec,
}
"""Section of the policy file → the spec that reads it."""


CORPUS = ("model", "corpus", "validation", "cases", "chunking", "embedding")
INDEX = (*CORPUS, "index", "answering")
TRAINING = (*INDEX, "guards", "training_data", "training", "forgetting")
ENGINE = (*TRAINING, "engine", "asking", "cost", "quantization", "quantization_load", "difficulty", "routing")
RELEASE = (*ENGINE, "gate", "canary", "gateway", "cache", "night")
NEEDED: dict[str, tuple[str, ...]] = {
    "ingest": CORPUS,
    "index": INDEX,
    "finetune": (*TRAINING, "engine", "asking", "cost"),
    "quantize": ENGINE,
    "benchmark": ("benchmark", "engine", "cost"),  # without an endpoint the flow checks what it trains with, too
    "distill": (*TRAINING, "engine", "asking", "cost", "distillation", "distillation_load"),
    "evaluate": ENGINE,
    "release": RELEASE,
    "nightly": (*RELEASE, "benchmark", "traces"),
    "monitor": ("traces",),
    "tune": (*INDEX, "tuning"),
    "rerank": (*INDEX, "reranker"),
    "difficulty": (*ENGINE, "gate"),
}
"""Flow → the sections that it reads; one that is left out must have a default for every field."""


def check_policy(policy: Policy, flow: str = "") -> None:
    """Raise PolicyError for an unknown section and for the first wrong value; for what `flow` needs and lacks, too."""
    unknown = sorted(str(name) for name in policy.sections if name not in SECTIONS)
    if unknown:
        known = ", ".join(SECTIONS)
        raise PolicyError(f"{policy.path}: unknown section {unknown[0]!r}; known ones are {known}")
    for name in dict.fromkeys((*policy.sections, *NEEDED.get(flow, ()))):
        policy.section(name, SECTIONS[name])
    if policy.section("validation", ValidationSpec).max_personal_share is not None:
        policy.section("guards", GuardPolicy)  # says what personal data are
    _check_training_files(policy)
    if "model" in policy.sections:
        _check_model(policy)
    if "answering" in policy.sections:
        _check_retrieval(policy)
        if policy.section("routing", RoutingPolicy).use:
            _check_routing(policy)
    if "gateway" in NEEDED.get(flow, ()) and "tools" in policy.sections:
        _check_tools(policy)


def _check_retrieval(policy: Policy) -> None:
    """What the search needs of the index is said before anything is embedded."""
    search, index = policy.section("answering", AnswerSpec).search, policy.section("index", IndexSpec)
    strategy, pattern = policy.section("chunking", ChunkSpec).strategy, search.pattern
    lacks_tokens = search.needs_token_vectors and not index.token_vectors
    for is_lacking, asked, lacking in (
        (lacks_tokens, "rerank: late-interaction", "index.token_vectors: true"),
        (search.needs_graph and not index.graph, "pattern: graph", "index.graph: true"),
        (search.needs_parents and strategy != pattern, f"pattern: {pattern}", f"chunking.strategy: {pattern}"),
    ):
        if is_lacking:
            raise PolicyError(f"{policy.path}: answering.search.{asked} needs {lacking}")


def _check_tools(policy: Policy) -> None:
    """A table that is missing is said now: the gateway opens it long after a night begins."""
    if accounts := policy.section("tools", ToolsSpec).accounts:
        open_accounts(accounts.url, policy.path.parent).dispose()


def _check_routing(policy: Policy) -> None:
    """The classifier foretells from one search and of the model at full precision: a release has to be that."""
    answering = policy.section("answering", AnswerSpec)
    pattern = answering.search.pattern
    if pattern not in ("naive", *WITH_PARENTS) or answering.patterns.listwise:
        told = "patterns.listwise" if answering.patterns.listwise else f"search.pattern: {pattern}"
        raise PolicyError(
            f"{policy.path}: routing.use: the classifier is learnt from what one search finds, not from "
            f"answering.{told}; take that out, or set routing.use to false"
        )
    if "quantization" in policy.sections and policy.section("quantization", QuantSpec).precisions:
        raise PolicyError(
            f"{policy.path}: routing.use needs quantization.precisions: []: the classifier is learnt of the fine-tuned "
            "model at full precision"
        )


def _check_training_files(policy: Policy) -> None:
    """A file of training data that is missing is said before anything is read."""
    for number, file in enumerate(policy.section("training_data", DataSpec).files):
        if not policy.folder(file.path).is_file():
            raise PolicyError(f"{policy.path}: training_data.files.{number}.path: {file.path!r} is no file")


def _check_model(policy: Policy) -> None:
    """A folder that is missing is said now, not after the servers have started."""
    model = policy.section("model", ModelSpec)
    base, folder = model.base, model.folder(policy)
    if not folder.is_dir() and (not is_hub_id(base) or folder.parent.is_dir()):  # `models/typo` beside the policy file
        raise PolicyError(
            f"{policy.path}: model.base: {base!r} is neither a folder nor a Hugging Face id such as org/name; "
            "`starter` is the model that comes with the project"
        )
