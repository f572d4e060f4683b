"""Pairs made by rule: the chosen answer is right, the rejected one wrong in the way that was meant."""

import re

from models.prompts import DEFAULT, answer_parts, passages_in
from models.training.data import RowMaker
from models.training.evidence import contains
from models.training.pairs import pairs_by_rule
from models.training.rows import PreferenceRow
from models.types import Case
from tests.unit.test_training_rows import case, maker

UNANSWERED = Case(id="t-9", question="Is there a swimming pool?", expected="refusal", split="train")
UNSEEN = case(id="t-8", answer="99 days", evidence=())


def made(count: int, *cases: Case, seed: int = 0) -> list[PreferenceRow]:
    rows: RowMaker = maker(seed=seed)
    return pairs_by_rule(rows, cases, lambda document: document != "gate.md", count)


def cited(pair: PreferenceRow, reply: str) -> list[tuple[str, str]]:
    """(words, text of the passage cited) of each part of a reply."""
    shown = passages_in(pair.prompt[-1].content)
    return [(words, shown[number - 1].text) for words, numbers in answer_parts(reply) for number in numbers]


def way(pair: PreferenceRow) -> str:
    if pair.chosen == DEFAULT.refusal:
        return "invents"
    if pair.rejected == DEFAULT.refusal:
        return "refuses"
    same = [words for words, _ in answer_parts(pair.chosen)] == [words for words, _ in answer_parts(pair.rejected)]
    return "cites another passage" if same else "says another span"


def test_each_pair_is_right_and_wrong_as_meant() -> None:
    pairs = made(100, case(), UNANSWERED, UNSEEN)
    ways = [way(pair) for pair in pairs]
    assert set(ways) == {"invents", "refuses", "cites another passage", "says another span"}
    assert max(ways.count(name) for name in set(ways) - {"invents"}) <= len(pairs) / 2
    for pair in pairs:
        assert pair.chosen != pair.rejected
        assert pair.prompt[-1].role == "user"
        assert all(contains(text, words) for words, text in cited(pair, pair.chosen))
        right = [words for words, _ in answer_parts(pair.chosen)]
        for words, text in cited(pair, pair.rejected):
            assert contains(text, words) is (way(pair) != "cites another passage")
            assert way(pair) == "cites another passage" or not any(contains(part, words) for part in right)


def test_pairs_come_from_cases_first_and_from_documents_that_may_be_learnt_from() -> None:
    sources = [pair.source for pair in made(100, case(), UNANSWERED, UNSEEN)]
    assert sources[:2] == ["case:t-1", "case:t-9"]
    assert "case:t-8" not in sources, "production does not show its answer"
    assert {source.partition(":")[0] for source in sources[2:]} == {"corpus"}
    assert "corpus:c2" not in sources, "gate.md is held back"


def test_the_number_is_kept_and_the_seed_decides() -> None:
    assert made(0, case()) == []
    assert len(made(3, case())) == 3
    assert made(5, case()) == made(5, case())
    assert any(made(9, seed=seed) != made(9) for seed in (1, 2, 3))


def test_a_wrong_span_is_of_the_same_kind() -> None:
    kinds = [pair for pair in made(100) if way(pair) == "says another span" and re.match(r"\d+ ", pair.chosen)]
    assert kinds
    assert all(re.match(r"\d", pair.rejected) for pair in kinds)
