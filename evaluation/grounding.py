"""Scorers of what an answer rests on: citations, extractive faithfulness, context precision and recall."""

from dataclasses import dataclass

from evaluation.normalization import cited_numbers, contains_run, parts, tokens
from evaluation.retrieval import average_precision, holds_evidence
from evaluation.scorer import Measurement, Scorer
from evaluation.types import Observation
from models.types import Answer, Citation

REFUSED = "refused: nothing was claimed"


def shown_passages(answer: Answer) -> dict[int, Citation]:
    """Passages by their number in the prompt; the citations themselves where the passages were not kept."""
    return {passage.number: passage for passage in (answer.passages or answer.citations)}


def numbers_cited(answer: Answer) -> list[int]:
    """Distinct passage numbers that the text or the citation list names, ascending."""
    return sorted({*cited_numbers(answer.answer), *(citation.number for citation in answer.citations)})


@dataclass(frozen=True)
class CitationPresent(Scorer):
    """1 where an answer names at least one source. Answers only, not refusals."""

    name: str = "citation_present"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        if observation.answer.refused:
            return None, REFUSED
        cited = numbers_cited(observation.answer)
        return float(bool(cited)), f"cites {cited}"


@dataclass(frozen=True)
class CitationValid(Scorer):
    """1 where a source is cited, every cited number exists, and every cited document is relevant to the case.

    Answers only: a refusal claims nothing. An answer to a question without relevant documents cannot be valid.
    """

    name: str = "citation_valid"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        if observation.answer.refused:
            return None, REFUSED
        cited, shown = numbers_cited(observation.answer), shown_passages(observation.answer)
        if not cited:
            return 0.0, "no source is cited"
        missing = [number for number in cited if number not in shown]
        if missing:
            return 0.0, f"cites {missing}, which were not shown"
        wrong = {shown[number].document for number in cited} - set(observation.case.documents)
        return float(not wrong), f"cites {', '.join(sorted(wrong))}, not relevant" if wrong else "all sources relevant"


@dataclass(frozen=True)
class Faithfulness(Scorer):
    """Extractive faithfulness: share of the answer's parts that stand word for word in a cited passage.

    Ragas' faithfulness (supported claims / claims) with parts (separated by ";") as claims and, in place of a judging
    model, an unbroken run of normalised tokens in the title or text of one cited passage. Deterministic, meant for
    models that answer in spans; a paraphrase counts as unsupported. Answers only, not refusals.
    """

    name: str = "faithfulness"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        if observation.answer.refused:
            return None, REFUSED
        claims, shown = parts(observation.answer.answer), shown_passages(observation.answer)
        if not claims:
            return 0.0, "neither an answer nor a refusal"
        cited = [shown[number] for number in numbers_cited(observation.answer) if number in shown]
        sources = [tokens(f"{passage.title}\n{passage.text}") for passage in cited]
        unsupported = [claim for claim in claims if not any(contains_run(source, claim) for source in sources)]
        reason = f"not in a cited passage: {' '.join(unsupported[0])!r}" if unsupported else "stands in the sources"
        return 1 - len(unsupported) / len(claims), reason


@dataclass(frozen=True)
class ContextPrecision(Scorer):
    """Ragas' non-LLM context precision: average precision of the passages shown, in the order of their numbers.

    Ragas calls a passage relevant when its Levenshtein similarity to a reference context is at least 0.5, which no
    chunk reaches when the evidence is one sentence of it; here `holds_evidence` decides. The formula is Ragas' own, and
    a test compares the two where both verdicts agree. Cases with evidence only.
    """

    name: str = "context_precision"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        evidence = observation.case.evidence
        if not evidence:
            return None, "the case names no evidence"
        passages = sorted(shown_passages(observation.answer).items())
        shown = [passage.text for _, passage in passages]
        relevant = [any(holds_evidence(text, wanted) for wanted in evidence) for text in shown]
        return average_precision(relevant), f"{sum(relevant)} of {len(shown)} passages hold evidence"


@dataclass(frozen=True)
class ContextRecall(Scorer):
    """Ragas' non-LLM context recall: share of the evidences that a shown passage holds (see ContextPrecision)."""

    name: str = "context_recall"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        evidence = observation.case.evidence
        if not evidence:
            return None, "the case names no evidence"
        shown = [passage.text for passage in shown_passages(observation.answer).values()]
        found = sum(any(holds_evidence(text, wanted) for text in shown) for wanted in evidence)
        return found / len(evidence), f"{found} of {len(evidence)} evidences were shown"
