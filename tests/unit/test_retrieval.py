"""Retrieval metrics against values worked out by hand, and when a passage states an evidence."""

import math
from pathlib import Path

import pytest

from evaluation.retrieval import (
    context_precision,
    context_recall,
    evidence_recall_at_k,
    measure_retrieval,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank,
    retrieval_scores,
    states,
    within_budget,
)
from indexes.build import IndexSpec, build_index, load_index
from indexes.fake import HashingEmbedder
from indexes.types import Chunk, Passage
from infra.errors import InputError
from models.types import Case


def test_metrics_by_hand() -> None:
    ranked, relevant = ["a", "b", "b", "c", "d"], ["c", "d"]
    assert recall_at_k(ranked, relevant, 2) == 0
    assert recall_at_k(ranked, relevant, 3) == 0.5
    assert recall_at_k(ranked, relevant, 4) == 1
    assert reciprocal_rank(ranked, relevant) == pytest.approx(1 / 3)
    assert reciprocal_rank(ranked, relevant, 2) == 0
    ideal = 1 + 1 / math.log2(3)
    assert ndcg_at_k(ranked, relevant) == pytest.approx((1 / math.log2(4) + 1 / math.log2(5)) / ideal)
    assert ndcg_at_k(["c", "d"], relevant) == pytest.approx(1)
    assert ndcg_at_k(["x"], relevant) == 0
    with pytest.raises(ValueError, match="without relevant"):
        recall_at_k(ranked, [], 1)


@pytest.mark.parametrize(
    ("passage", "evidence", "expected"),
    [
        ("The charge is 6.40 euros\na month. More.", "charge is 6.40  euros a month.", True),
        ("Charges, zone: Tarnholt; price: 1.97; tax: 2.41", "Household,Tarnholt,1.97,2.41", False),
        ("Charges, tariff: Household; zone: Tarnholt; price: 1.97", "Household,Tarnholt,1.97", True),
        ("zone: Tarnholt; price: 1.97\nzone: Dunmere; price: 2.05", "| Tarnholt | 2.05 |", False),
        ("name: Hazel; capacity m3 h: 580", "capacity_m3_h: 580", True),
        ("Nothing of it.", "...", False),
    ],
)
def test_states(passage: str, evidence: str, expected: bool) -> None:
    assert states(passage, evidence) is expected


def test_evidence_counts_only_in_the_cases_own_documents() -> None:
    case = Case(id="1", question="q", answer="x", documents=("a", "b"), evidence=("x is one", "y is two"))
    passages = [("z", "x is one"), ("a", "so x is one."), ("b", "y is two")]
    assert [evidence_recall_at_k(passages, case, k) for k in (1, 2, 3)] == [0, 0.5, 1]
    with pytest.raises(ValueError, match="no evidence"):
        evidence_recall_at_k(passages, Case(id="2", question="q"), 1)


def passages(*found: tuple[str, str], tokens: int = 10) -> list[Passage]:
    return [
        Passage(
            chunk=Chunk(id=str(rank), document=document, title="T", text=text, start=0, end=1, tokens=tokens), score=1.0
        )
        for rank, (document, text) in enumerate(found)
    ]


def test_context_precision_and_recall_by_hand() -> None:
    case = Case(id="1", question="q", answer="x", documents=("a", "b"), evidence=("the fee is one euro", "pay in May"))
    found = passages(("z", "no"), ("z", "So the fee is one euro."), ("a", "no"), ("a", "You pay in May."))
    assert context_precision(found, case) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert [context_recall(found[:k], case) for k in (1, 2, 4)] == [0, 0.5, 1]
    plain = Case(id="2", question="q", answer="x", documents=("a", "b"))
    assert context_precision(found, plain) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert context_recall(found, plain) == 0.5
    assert (context_precision([], case), context_recall([], case), context_recall([], plain)) == (0, 0, 0)
    with pytest.raises(ValueError, match="without relevant documents"):
        context_recall(found, Case(id="3", question="q"))


def test_context_is_scored_at_ten() -> None:
    case = Case(id="1", question="q", answer="x", documents=("a",), evidence=("the fee is one euro",))
    found = passages(*[("z", "no")] * 10, ("a", "the fee is one euro"))
    assert retrieval_scores(found, case)["context_recall_at_10"] == 0
    assert retrieval_scores(found[1:], case)["context_recall_at_10"] == 1
    assert retrieval_scores(found[1:], case)["context_precision_at_10"] == pytest.approx(0.1)


def test_passages_within_a_budget() -> None:
    found = passages(("a", "x"), ("b", "x"), ("c", "x"))
    assert [len(within_budget(found, tokens)) for tokens in (9, 10, 29, 30, 99)] == [0, 1, 2, 3, 3]


def test_measured_on_an_index_with_every_label_or_the_named_ones(tmp_path: Path) -> None:
    texts = {"a": "Pumps need oil.", "b": "Herons nest here.", "c": "Taxes rise in May."}
    chunks = [
        Chunk(id=name, document=name, title="T", text=text, start=0, end=9, tokens=3, access=("staff",))
        for name, text in texts.items()
    ]
    embedder = HashingEmbedder()
    vectors = embedder.passages([chunk.embedding_text for chunk in chunks])
    build_index(chunks, vectors, IndexSpec(kind="flat"), embedder.version, tmp_path)
    retriever = load_index(tmp_path, embedder)
    cases = [
        Case(id="1", question="Which oil do pumps need?", answer="oil", documents=("a",), evidence=("need oil",)),
        Case(id="2", question="When do taxes rise?", answer="May", documents=("c",)),
        Case(id="3", question="Who?", expected="refusal"),
    ]
    reports = measure_retrieval(retriever, cases)
    assert {mode: report.cases for mode, report in reports.items()} == {"dense": 2, "lexical": 2, "hybrid": 2}
    assert reports["hybrid"].means["recall_at_1"] == 1
    assert reports["lexical"].metrics()["evidence_recall_at_1"] == 1
    assert measure_retrieval(retriever, cases, frozenset({"public"}))["dense"].means["recall_at_10"] == 0
    with pytest.raises(InputError, match="no case"):
        measure_retrieval(retriever, cases[2:])
