"""Training rows: which passage supports an answer, what is refused, and what may be learnt from."""

import pytest

from indexes.types import Chunk, Passage
from models.prompts import DEFAULT, answer_parts
from models.training.data import RowMaker, RowSpec
from models.training.evidence import contains, support
from models.training.rows import TrainingRow
from models.types import Case

TEXTS = {
    "rules.md": "A customer must report a hidden leak within 14 days. The leak desk is open from 8:00 to 17:00.",
    "fees.md": "Tariff: Standard; Zone: Harrow; Charge: 6.40 euros\nTariff: Standard; Zone: Lissen; Charge: 7.10 euros",
    "gate.md": "The pump station holds 340 cubic metres. The lid is checked every 6 months.",
    "new.md": "A meter exchange takes 35 minutes. The fitter calls the customer 30 minutes before the visit.",
}
CHUNKS = [
    Chunk(id=f"c{n}", document=name, title=name, text=text, start=0, end=len(text), tokens=20)
    for n, (name, text) in enumerate(TEXTS.items())
]
BY_DOCUMENT = {chunk.document: chunk for chunk in CHUNKS}


def found(_question: str) -> list[Passage]:
    return [Passage(chunk=chunk, score=1 / n) for n, chunk in enumerate(CHUNKS, 1)]


def maker(**changes: object) -> RowMaker:
    return RowMaker(RowSpec.model_validate(changes), DEFAULT, found, CHUNKS)


def case(**changes: object) -> Case:
    fields: dict[str, object] = {
        "id": "t-1",
        "question": "How soon must I report a leak?",
        "answer": "14 days",
        "documents": ("rules.md",),
        "evidence": ("A customer must report a hidden leak within 14 days.",),
    }
    return Case.model_validate(fields | changes)


def shown(row: TrainingRow) -> str:
    return row.messages[1].content


@pytest.mark.parametrize(
    ("text", "part", "held"),
    [
        ("within 14 days", "14 days", True),
        ("within 14 days", "4 days", False),
        ("costs 2.40 euros", "40 euros", False),
        ("costs 12,400 euros", "400 euros", False),
        ("costs 40 euros.", "40 euros", True),
        ("costs\n40  EUROS, paid", "40 euros", True),
        ("the area", "are", False),
    ],
)
def test_whole_words_and_numbers_only(text: str, part: str, held: bool) -> None:
    assert contains(text, part) is held


def test_support_needs_the_right_document() -> None:
    assert support(BY_DOCUMENT["rules.md"], "14 days", case()) > 0.9
    assert support(BY_DOCUMENT["rules.md"], "14 days", case(documents=("fees.md",))) == 0


def test_evidence_written_as_another_kind_of_table_row_is_found() -> None:
    asked = case(answer="7.10 euros", documents=("fees.md",), evidence=("| Standard | Lissen | 7.10 euros |",))
    assert support(BY_DOCUMENT["fees.md"], "7.10 euros", asked) >= 1


def test_answer_cites_the_passage_that_holds_it_in_every_order() -> None:
    rows = [row for row in maker(orders=6, turns=1, refusal_share=0).of_cases([case()]) if not row.refusal]
    assert len(rows) == 6
    assert len({shown(row) for row in rows}) > 1
    for row in rows:
        ((words, numbers),) = answer_parts(row.messages[-1].content)
        assert words == "14 days"
        assert f"[{numbers[0]}] rules.md: A customer must report" in shown(row)


def test_each_part_of_an_answer_cites_its_own_document() -> None:
    asked = case(
        answer="14 days; 35 minutes",
        documents=("rules.md", "new.md"),
        evidence=("A customer must report a hidden leak within 14 days.", "A meter exchange takes 35 minutes."),
    )
    row = maker(turns=1, refusal_share=0).of_cases([asked])[0]
    parts = answer_parts(row.messages[-1].content)
    assert [words for words, _ in parts] == ["14 days", "35 minutes"]
    for (_, numbers), name in zip(parts, ("rules.md", "new.md"), strict=True):
        assert f"[{numbers[0]}] {name}:" in shown(row)


def test_cases_can_weigh_more_than_made_questions() -> None:
    alone, weighed = maker(orders=1, refusal_share=0), maker(orders=1, case_orders=4, refusal_share=0)
    assert (len(alone.of_cases([case()])), len(weighed.of_cases([case()]))) == (1, 4)
    assert alone.of_corpus(lambda _: True) == weighed.of_corpus(lambda _: True) != []


def test_unanswerable_case_is_refused_over_what_was_found() -> None:
    (row,) = maker(orders=3).of_cases([case(expected="refusal", answer="", documents=(), evidence=())])
    assert row.refusal
    assert row.messages[-1].content == DEFAULT.refusal


def test_case_without_support_anywhere_gives_no_row() -> None:
    assert maker().of_cases([case(answer="99 days", evidence=("within 99 days",))]) == []


def test_no_question_is_made_from_a_document_that_is_held_back() -> None:
    rows = maker(corpus_questions=100, refusal_share=0.5).of_corpus(lambda name: name != "gate.md")
    rows += maker(turns=5).of_cases([case()], lambda name: name != "gate.md")
    asked = " ".join(m.content.split("Question: ")[-1] for row in rows for m in row.messages if m.role == "user")
    assert "report a hidden leak" in asked
    assert "pump station" not in asked
    assert "lid" not in asked


def test_without_a_rule_no_further_question_joins_a_case() -> None:
    assert all(row.questions == 1 for row in maker().of_cases([case()]))


def test_refusals_of_corpus_rows_have_their_passage_left_out() -> None:
    rows = maker(refusal_share=0.9, support_share=0).of_corpus(lambda _: True)
    refused = 0
    for row in rows:
        for asked, reply in zip(row.messages[1::2], row.messages[2::2], strict=True):
            if reply.content == DEFAULT.refusal and "leak" in asked.content.split("Question: ")[-1]:
                assert "hidden leak within" not in shown(row)
            refused += reply.content == DEFAULT.refusal
    assert refused
    assert sum(row.refusal for row in rows) == refused


def test_claims_are_true_sentences_or_carry_one_changed_digit() -> None:
    rows = maker(support_share=0.95, refusal_share=0, turns=2).of_corpus(lambda _: True)
    verdicts: set[str] = set()
    for row in rows:
        for asked, reply in zip(row.messages[1::2], row.messages[2::2], strict=True):
            if "Claim: " in asked.content:
                claim = asked.content.split("Claim: ")[1].split("\n")[0]
                assert (claim in shown(row).split("\n\n")[0]) is (reply.content == "yes")
                verdicts.add(reply.content)
    assert "yes" in verdicts
    assert verdicts <= {"yes", "no"}


def test_same_seed_same_rows_and_the_limit_holds() -> None:
    first = maker(corpus_questions=3, turns=2).of_corpus(lambda _: True)
    assert first == maker(corpus_questions=3, turns=2).of_corpus(lambda _: True)
    assert first != maker(corpus_questions=3, turns=2, seed=5).of_corpus(lambda _: True)
    assert len({row.source for row in first}) <= 3, "three questions, each in two orders of its passages"
    assert len(first) <= 3 * 2
    assert max(row.questions for row in first) <= 2
