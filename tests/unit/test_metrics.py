"""Scorers: what they count, where they do not apply, and that a crash is never a zero."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.correctness import AnswerCorrect, AnswerRelevance, Bleu, ExactMatch, RougeL, StringSimilarity, TokenF1
from evaluation.grounding import CitationPresent, CitationValid, ContextPrecision, ContextRecall, Faithfulness
from evaluation.metrics import JUDGE_VERSION, STANDARD, case_values, judge_version, standard_scorers, table
from evaluation.normalization import cited_numbers, exact_match, token_f1, tokens
from evaluation.safety import Cost, ForbiddenShown, Latency, PiiLeak
from evaluation.scorer import Measurement, Scorer, score_all
from evaluation.types import Observation, Score
from indexes.types import Vectors
from models.types import Answer, Case, Citation

CHARGE = "The standing charge is 6.40 euros a month. It is billed in March."
OTHER = "A meter is read once a year by the field team."


def citation(number: int, document: str, text: str) -> Citation:
    return Citation(number=number, document=document, chunk=f"{document}#{number}", title="Tariff 2026", text=text)


def observed(
    answer: str,
    *,
    reference: str = "6.40 euros a month",
    expected: str = "answer",
    refused: bool = False,
    passages: Sequence[Citation] = (citation(1, "tariff.md", CHARGE), citation(2, "meter.md", OTHER)),
    documents: tuple[str, ...] = ("tariff.md",),
    evidence: tuple[str, ...] = ("The standing charge is 6.40 euros a month.",),
    forbidden: tuple[str, ...] = (),
) -> Observation:
    case = Case.model_validate(
        {"id": "c1", "question": "?", "answer": reference, "documents": documents, "evidence": evidence}
        | {"expected": expected, "forbidden": forbidden}
    )
    given = Answer(
        question="?",
        answer=answer,
        citations=(),
        refused=refused,
        release="r",
        trace_id="t",
        latency_ms=12.0,
        passages=tuple(passages),
    )
    return Observation(case=case, answer=given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The 6.40 euros.", ["6.40", "euros"]),
        ("412,000 people", ["412000", "people"]),
        ("14-day notice, at 14:30", ["14", "day", "notice", "at", "14:30"]),
        ("A customer's meter [1, 2].", ["customers", "meter"]),
        ("1,5 and 2, 3", ["1,5", "and", "2", "3"]),
        ("", []),
    ],
)
def test_normalisation_keeps_numbers(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_exact_match_keeps_decimals_apart_and_parts_in_any_order() -> None:
    assert exact_match("6.40 Euros a month [1]", "6.40 euros  a month.")
    assert not exact_match("640 euros a month", "6.40 euros a month")
    assert exact_match("14 days; the duty chemist", "duty chemist; 14 days")
    assert not exact_match("14 days", "14 days; the duty chemist")


@given(st.text(), st.text())
def test_f1_is_symmetric_bounded_and_one_on_equality(left: str, right: str) -> None:
    score = token_f1(left, right)
    assert 0 <= score <= 1
    assert score == pytest.approx(token_f1(right, left))
    assert token_f1(left, left) == 1
    if exact_match(left, right) and ";" not in left + right:
        assert score == 1


def test_cited_numbers_reads_lists() -> None:
    assert cited_numbers("Ten days [2][1, 3]. See [x].") == [2, 1, 3]


def test_answer_correct_is_a_match_or_the_expected_refusal() -> None:
    scorer = AnswerCorrect()
    assert scorer.score(observed("6.40 euros a month [1]")).value == 1
    assert scorer.score(observed("6.50 euros a month [1]")).value == 0
    assert scorer.score(observed("The documents do not say.", refused=True)).value == 0
    assert scorer.score(observed("The documents do not say.", expected="refusal", refused=True)).value == 1
    assert scorer.score(observed("6.40 euros", expected="refusal")).value == 0


def test_a_metric_that_does_not_apply_is_neither_zero_nor_error() -> None:
    refusal = observed("No.", expected="refusal", refused=True, evidence=())
    for scorer in (ExactMatch(), TokenF1(), Faithfulness(), CitationValid(), ContextRecall(), ForbiddenShown()):
        score = scorer.score(refusal)
        assert score.value is None and not score.error and score.reason


@pytest.mark.parametrize(
    ("answer", "documents", "valid"),
    [
        ("6.40 euros [1]", ("tariff.md",), 1),
        ("6.40 euros [2]", ("tariff.md",), 0),
        ("6.40 euros [1][7]", ("tariff.md",), 0),
        ("6.40 euros; once [1][2]", ("tariff.md", "meter.md"), 1),
        ("6.40 euros", ("tariff.md",), 0),
    ],
)
def test_citation_valid(answer: str, documents: tuple[str, ...], valid: int) -> None:
    assert CitationValid().score(observed(answer, documents=documents)).value == valid


def test_citation_present() -> None:
    assert CitationPresent().score(observed("ten [1]")).value == 1
    assert CitationPresent().score(observed("ten")).value == 0


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("6.40 euros a month [1]", 1),
        ("6.40 euros a month [2]", 0),
        ("64 euros a month [1]", 0),
        ("standing euros [1]", 0),
        ("6.40 euros a month; once a year [1][2]", 1),
        ("6.40 euros a month; twice a year [1][2]", 0.5),
        ("Tariff 2026 [1]", 1),
        ("[1]", 0),
    ],
)
def test_extractive_faithfulness_wants_every_part_in_a_cited_passage(answer: str, value: float) -> None:
    assert Faithfulness().score(observed(answer)).value == value


def test_context_metrics_find_a_sentence_inside_a_chunk() -> None:
    seen = observed("x", passages=[citation(2, "tariff.md", CHARGE), citation(1, "meter.md", OTHER)])
    assert ContextPrecision().score(seen).value == 0.5, "passages count in the order of their numbers"
    assert ContextRecall().score(seen).value == 1
    assert ContextPrecision().score(observed("x", passages=[citation(1, "meter.md", OTHER)])).value == 0


def test_context_metrics_equal_ragas_where_both_call_the_same_passages_relevant() -> None:
    from ragas.dataset_schema import SingleTurnSample
    from ragas.metrics import NonLLMContextPrecisionWithReference, NonLLMContextRecall

    facts = [
        f"Zone {name} is flushed on the {day}th of March by the field team." for day, name in enumerate("ABCDE", 4)
    ]
    noise = ["Billing questions go to the office.", "Nobody swims in Lake Orrin, says rule 7.", "Pipes freeze."]
    random = np.random.default_rng(3)
    for _ in range(20):
        evidence = tuple(str(text) for text in random.choice(facts, size=1, replace=False))
        shown = [str(text) for text in random.permutation([*evidence, *noise])]
        shown = shown[: int(random.integers(1, 5))]
        passages = [citation(number, "d", text) for number, text in enumerate(shown, 1)]
        seen = observed("x", passages=passages, evidence=evidence)
        sample = SingleTurnSample(retrieved_contexts=shown, reference_contexts=list(evidence))
        precision = asyncio.run(NonLLMContextPrecisionWithReference().single_turn_ascore(sample))
        recall = asyncio.run(NonLLMContextRecall().single_turn_ascore(sample))
        assert ContextPrecision().score(seen).value == pytest.approx(precision, abs=1e-6)
        assert ContextRecall().score(seen).value == pytest.approx(recall)


def test_ragas_text_metrics_run_also_inside_an_event_loop() -> None:
    async def inside() -> list[float | None]:
        right = observed("6.40 euros a month")
        return [scorer.score(right).value for scorer in (RougeL(), Bleu(), StringSimilarity())]

    rouge, bleu, similarity = asyncio.run(inside())
    assert rouge == similarity == 1
    assert bleu == pytest.approx(1)
    assert StringSimilarity().score(observed("nothing", refused=True)).value == 0


class LetterEmbedder:
    """Counts letters: equal texts are equal vectors."""

    version = "letters-1"
    dimension = 26

    def passages(self, texts: Sequence[str]) -> Vectors:
        counts = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)
        unit: Vectors = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
        return unit

    def query(self, text: str) -> Vectors:
        return self.passages([text])


def test_answer_relevance_is_a_cosine_and_zero_for_a_refusal() -> None:
    scorer = AnswerRelevance(LetterEmbedder())
    assert scorer.score(observed("6.40 euros a month [1]")).value == pytest.approx(1)
    assert scorer.score(observed("not said", refused=True)).value == 0
    assert scorer.score(observed("x")).scorer == "answer_relevance@1+letters-1"


def test_pii_leak_spares_the_reference_and_never_repeats_what_leaked() -> None:
    scorer = PiiLeak(lambda text: [word for word in text.split() if "@" in word])
    leak = scorer.score(observed("write to ann@example.org"))
    assert leak.value == 1 and "ann" not in leak.reason
    assert scorer.score(observed("ask help@water.example", reference="help@water.example")).value == 0


def test_forbidden_strings_are_found_in_other_case_and_spacing() -> None:
    seen = observed("It is  FREE of\ncharge", forbidden=("free of charge",))
    assert ForbiddenShown().score(seen).value == 1
    assert ForbiddenShown().score(observed("6.40", forbidden=("free of charge",))).value == 0


@dataclass(frozen=True)
class Crashing(Scorer):
    """Fails on every case."""

    name: str = "crashing"
    version: str = "1"

    def measure(self, observation: Observation) -> Measurement:
        raise KeyError("no such thing")


def test_a_crashed_scorer_is_an_error_and_not_a_zero(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        crashed, fine = score_all([observed("6.40")], [Crashing(), Latency()])
    assert crashed.value is None and crashed.error == "KeyError: 'no such thing'"
    assert fine.value == 12
    assert "crashing@1" in caplog.text
    assert "crashing" not in table([crashed, fine], {"c1": "a"})


def test_repeats_are_averaged_before_anything_else() -> None:
    scores = [
        Score(case=case, metric="m", value=value, reason="", scorer="m@1")
        for case, value in (("b", 1.0), ("a", 1.0), ("a", 0.0), ("a", 0.5))
    ]
    assert case_values(scores, "m") == {"a": 0.5, "b": 1.0}


def test_judge_version_changes_with_any_scorer_version_and_not_with_order() -> None:
    assert judge_version(reversed(STANDARD)) == JUDGE_VERSION
    assert judge_version([ExactMatch(version="2"), TokenF1()]) != judge_version([ExactMatch(), TokenF1()])


def test_standard_scorers_have_distinct_names_and_run_on_one_observation() -> None:
    scorers = standard_scorers(LetterEmbedder(), lambda _: [], lambda answer: answer.latency_ms, ragas=False)
    assert Cost in {type(scorer) for scorer in scorers}
    names = [score.metric for score in score_all([observed("6.40 euros a month [1]")], scorers)]
    assert len(names) == len(set(names)) == len(scorers)
