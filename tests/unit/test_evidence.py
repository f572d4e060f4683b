"""Compression to evidence: which sentences are kept, in which passages, and what is never invented."""

from indexes.types import Chunk
from models.answering.evidence import compress, terms


def chunk(number: int, title: str, text: str) -> Chunk:
    return Chunk(id=str(number), document=f"d{number}", title=title, text=text, start=0, end=len(text), tokens=9)


FEES = chunk(1, "Fees", "A meter test costs 48 euros. A special reading costs 22 euros. Fees include tax.")
DOGS = chunk(2, "Dogs", "A dog must be on a leash. The meter reader carries no biscuits.")
TABLE = chunk(3, "Limits", "Role: Team leader; Limit: 1,500 euros\nRole: Director; Limit: 9,000 euros")


def test_the_sentence_that_says_most_of_the_question_comes_first() -> None:
    shown = compress([DOGS, FEES], "What does a special reading cost?", 1, 0.5)
    assert [(one.document, one.text) for one in shown] == [("d1", "A special reading costs 22 euros.")]


def test_sentences_of_one_passage_keep_their_order() -> None:
    (shown,) = compress([FEES], "tax on a meter test", 2, 0.5)
    assert shown.text == "A meter test costs 48 euros. Fees include tax."


def test_a_table_line_is_a_piece() -> None:
    (shown,) = compress([TABLE], "limit of the director", 1, 0.5)
    assert shown.text == "Role: Director; Limit: 9,000 euros"


def test_a_title_lends_its_words() -> None:
    other = chunk(4, "Bridges", "It opened in 1974.")
    works = chunk(5, "Kestrel Moor Works", "It opened in 1981.")
    assert compress([other, works], "When was Kestrel Moor Works opened?", 1, 0.5)[0].document == "d5"
    assert compress([other, works], "When was Kestrel Moor Works opened?", 1, 0.0)[0].document == "d4"


def test_nothing_is_invented_and_enough_is_everything() -> None:
    shown = compress([FEES, DOGS, TABLE], "fees of a dog", 100, 0.5)
    assert sorted(one.text for one in shown) == sorted(one.text for one in (FEES, DOGS, TABLE))


def test_endings_and_case_do_not_matter() -> None:
    assert terms("Readings COST") == terms("reading costs")
    assert terms("What is the") == frozenset()
