"""Scorers of what was answered: exact match, F1, refusals, similarity, and the Ragas text metrics without a model."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from evaluation.normalization import exact_match, token_f1, without_citations
from evaluation.scorer import Measurement, Scorer
from evaluation.types import Observation
from indexes.types import Embedder

NOT_ANSWERABLE = "the expected outcome is a refusal"


def _texts(observation: Observation) -> tuple[str, str] | None:
    """Answer and reference, or None where a refusal is expected. A refusal is an empty answer."""
    if observation.case.expected == "refusal":
        return None
    answer = observation.answer
    return ("" if answer.refused else without_citations(answer.answer)), observation.case.answer


@dataclass(frozen=True)
class ExactMatch(Scorer):
    """1 where the answer equals the reference after normalisation. Answerable cases only."""

    name: str = "exact_match"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        texts = _texts(observation)
        if texts is None:
            return None, NOT_ANSWERABLE
        same = exact_match(*texts)
        return float(same), "same as the reference" if same else f"expected {texts[1]!r}, got {texts[0]!r}"


@dataclass(frozen=True)
class TokenF1(Scorer):
    """Token F1 against the reference (SQuAD). Answerable cases only."""

    name: str = "token_f1"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        texts = _texts(observation)
        return (None, NOT_ANSWERABLE) if texts is None else (token_f1(*texts), "token overlap with the reference")


@dataclass(frozen=True)
class RefusalCorrect(Scorer):
    """1 where the release refused exactly when the case expects it. All cases."""

    name: str = "refusal_correct"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        expected, refused = observation.case.expected == "refusal", observation.answer.refused
        did, should = ("refused" if refused else "answered"), ("refuse" if expected else "answer")
        return float(expected == refused), f"{did}, should {should}"


@dataclass(frozen=True)
class AnswerCorrect(Scorer):
    """Exact match where an answer is expected, a refusal where a refusal is: one 0/1 value for every case."""

    name: str = "answer_correct"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        if observation.case.expected == "refusal":
            return RefusalCorrect().measure(observation)
        return ExactMatch().measure(observation)


@dataclass(frozen=True)
class AnswerRelevance(Scorer):
    """Cosine similarity of answer and reference, 0 for a refusal. Answerable cases only.

    A proxy without a language model: Ragas' answer relevancy asks a model to guess the question back. Like Ragas'
    SemanticSimilarity, but negative cosines count as 0.
    """

    embedder: Embedder
    name: str = "answer_relevance"
    version: str = "1"

    @property
    def identity(self) -> str:
        return f"{self.name}@{self.version}+{self.embedder.version[:16]}"

    def measure(self, observation: Observation) -> Measurement:
        texts = _texts(observation)
        if texts is None:
            return None, NOT_ANSWERABLE
        if not texts[0]:
            return 0.0, "no answer to compare"
        answer, reference = self.embedder.passages(list(texts))
        return min(1.0, max(0.0, float(answer @ reference))), "cosine similarity to the reference"


@dataclass(frozen=True)
class _RagasText(Scorer):
    """A Ragas metric of answer against reference, 0 for a refusal. Answerable cases only. Ragas is imported lazily."""

    def metric(self) -> Any:
        """The Ragas metric object."""
        raise NotImplementedError

    def measure(self, observation: Observation) -> Measurement:
        from ragas.dataset_schema import SingleTurnSample

        texts = _texts(observation)
        if texts is None:
            return None, NOT_ANSWERABLE
        if not texts[0]:
            return 0.0, "no answer to compare"
        sample, metric = SingleTurnSample(response=texts[0], reference=texts[1]), self.metric()

        def run() -> float:
            return float(asyncio.run(metric.single_turn_ascore(sample)))

        with ThreadPoolExecutor(1) as worker:  # Ragas is async: a thread has its own loop, whoever calls this
            return worker.submit(run).result(), f"Ragas {metric.name}"


@dataclass(frozen=True)
class RougeL(_RagasText):
    """Ragas RougeScore: longest common subsequence F-measure with stemming."""

    name: str = "rouge_l"
    version: str = "1"

    def metric(self) -> Any:
        from ragas.metrics import RougeScore

        return RougeScore()


@dataclass(frozen=True)
class Bleu(_RagasText):
    """Ragas BleuScore (sacrebleu, smoothed): near 0 for answers shorter than four tokens, by its definition."""

    name: str = "bleu"
    version: str = "1"

    def metric(self) -> Any:
        from ragas.metrics import BleuScore

        return BleuScore()


@dataclass(frozen=True)
class StringSimilarity(_RagasText):
    """Ragas NonLLMStringSimilarity: 1 − normalised Levenshtein distance."""

    name: str = "string_similarity"
    version: str = "1"

    def metric(self) -> Any:
        from ragas.metrics import NonLLMStringSimilarity

        return NonLLMStringSimilarity()
