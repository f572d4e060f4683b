"""The starter model's generated tasks: determinism, verbatim answers, unsupported refusals and claims."""

import pytest

from models.starter import reading, relations, sentences, unseen
from models.starter.reading import Example, Turn


def _examples(count: int) -> list[Example]:
    return [reading.example(seed) for seed in range(count)]


def _turns(kind: str, count: int = 150) -> list[tuple[Example, Turn]]:
    return [(made, turn) for made in _examples(count) for turn in made.turns if turn.kind == kind]


def test_an_example_is_a_function_of_its_seed() -> None:
    assert _examples(30) == _examples(30)
    assert len({made.passages for made in _examples(30)}) == 30


@pytest.mark.parametrize("lines", [(), unseen.PARSED])
def test_answers_are_verbatim_in_the_cited_passage(lines: list[sentences.Line]) -> None:
    for seed in range(150):
        made = reading.example(seed, lines=lines)
        for turn in made.turns:
            assert all(answer in made.passages[number - 1] for answer, number in turn.spans)
            assert turn.kind not in {"span", "pair"} or turn.reply == "; ".join(f"{a} [{n}]" for a, n in turn.spans)


def test_refusals_have_no_support() -> None:
    refusals = _turns("refusal")
    assert refusals
    for made, turn in refusals:
        assert turn.reply == reading.REFUSAL
        answered = {other.question for other in made.turns if other.kind == "span"}
        assert turn.question not in answered


def test_refused_relations_are_not_stated_of_the_entity() -> None:
    relation = next(r for r in relations.ATTRIBUTES if r.name == "late fee")
    for made, turn in _turns("refusal", 600):
        for passage in made.passages:
            if "late fee" in turn.question and "late fee" in passage:
                name = turn.question.split("late fee", 1)[1].strip(" ?.ofr")
                assert not any(f"{relation.name} of {name} is" in line for line in passage.split(". ") if name)


def test_unsupported_claims_differ_from_the_text() -> None:
    claims = _turns("claim", 400)
    assert {turn.reply for _, turn in claims} == {"yes", "no"}
    for made, turn in claims:
        claim = turn.question.removeprefix("Claim: ").split("\n")[0]
        assert turn.reply == "yes" or not any(claim in passage for passage in made.passages)


def test_there_are_enough_kinds_of_relation() -> None:
    assert len(relations.RELATIONS) >= 150
    assert len({r.key for r in relations.RELATIONS}) == len(relations.RELATIONS)
    assert all(len(r.statements) >= 1 and len(r.questions) >= 2 for r in relations.RELATIONS)


def test_held_out_sentences_are_not_trained_on() -> None:
    assert not set(unseen.LINES) & set(sentences.LINES)


def test_the_first_user_message_has_the_format_of_production() -> None:
    made = next(e for e in _examples(50) if e.turns[0].kind == "span")
    system, user, assistant, *_ = made.messages()
    assert system["content"] == "Answer from the passages. Cite the passage number."
    assert user["content"].startswith("[1] ") and "\n\nQuestion: " in user["content"]
    assert assistant["role"] == "assistant"
