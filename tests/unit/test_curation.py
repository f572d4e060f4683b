"""What is refused of training rows: what gives a held-back case away, what repeats, what lies in both parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from indexes.types import Chunk
from infra.settings import ROOT
from infra.store import read_lines
from models.prompts import DEFAULT, Prompt, asked_in, render, render_support
from models.training.contamination import HeldBack, OverlapSpec, plain
from models.training.curation import Candidate, CurationSpec, Refused, Split, candidate, curate, summary
from models.training.rows import PreferenceRow, TrainingRow
from models.types import Case, Message

CASES = [
    Case(id="g-1", question="How large must a private garden be for the Farm tariff?", answer="800 square metres"),
    Case(id="g-2", question="What did the standing charge amount to in 2024?", answer="3.20 euros"),
    Case(id="v-1", question="Why?", answer="It rained."),
]
PASSAGE = Chunk(
    id="c", document="d", title="Farm tariff", start=0, end=1, tokens=1,
    text="A private garden must be larger than 800 square metres for the Farm tariff.",
)  # fmt: skip


def row(*asked_and_said: str, source: str = "file:x:1") -> TrainingRow:
    roles = ("user", "assistant")
    return TrainingRow(
        messages=tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(asked_and_said)),
        source=source,
    )


def overlap(*asked_and_said: str, **spec: float) -> str:
    held = HeldBack(CASES, OverlapSpec(**spec))
    one = candidate(row(*asked_and_said), DEFAULT)
    found = held.overlap(one.asked, one.said)
    return f"{found.case}: {found.how}" if found else ""


QUESTION = CASES[0].question


@pytest.mark.parametrize(
    ("asked", "said", "expected"),
    [
        (QUESTION, "I do not know.", "g-1: asks what case g-1 asks"),
        ("how large must a private garden be, for the FARM tariff", "x", "g-1: asks what"),
        (f"Hello there. {QUESTION} Thank you.", "x", "g-1: holds the question"),
        ("Write a question.", f"Gladly: {QUESTION}", "g-1: holds the question"),
        ("How big must a private garden be for the Farm tariff?", "x", "g-1: asks nearly (0.8"),
        (
            "How large has a private garden to be for this tariff?",
            "800 square metres [2]",
            "g-1: asks much (0.58) of what case g-1 asks, and holds its answer",
        ),
        ("How large has a private garden to be for this tariff?", "1,800 square metres", ""),
        ("How large has a private garden to be for this tariff?", "900 square metres", ""),
        ("How long must a public meadow be for the Mill licence?", "800 square metres", ""),
        ("What did the standing charge amount to in 2024?", "x", "g-2: asks what"),
        ("What did the standing charge amount to in 2025?", "x", ""),
        ("Why?", "x", "v-1: asks what"),
        ("Tell me why? And how?", "x", ""),
        ("", "x", ""),
    ],
)
def test_rows_that_give_a_case_away_are_found(asked: str, said: str, expected: str) -> None:
    found = overlap(asked, said)
    assert found.startswith(expected)
    assert bool(found) is bool(expected)


def test_a_text_is_searched_whole() -> None:
    text = TrainingRow(messages=(Message(role="assistant", content=f"FAQ\n{QUESTION}\n800."),), source="file:x:1")
    one = candidate(text, DEFAULT)
    assert HeldBack(CASES, OverlapSpec()).overlap(one.asked, one.said) is not None


def test_passages_are_no_questions() -> None:
    """A passage of a held-back document may be shown beside another; only what is asked and said is learnt."""
    messages = [
        *render(DEFAULT, [PASSAGE], "What does rain cost?", "key"),
        Message(role="assistant", content="Nothing [1]"),
    ]
    more = [Message(role="user", content="Question: Who pays?"), Message(role="assistant", content="Nobody [1]")]
    one = candidate(TrainingRow(messages=(*messages, *more), source="case:t"), DEFAULT)
    assert one.asked == ("What does rain cost?", "Who pays?")
    assert one.said == ("Nothing [1]", "Nobody [1]")
    assert HeldBack(CASES, OverlapSpec()).overlap(one.asked, one.said) is None


def test_the_question_is_read_back_from_any_prompt() -> None:
    first = Prompt(id="p", version="1", system="s", user="Q: {question}\n{{x}}\n{passages}",
                   support="{claim}?\n{passages}", refusal="no")  # fmt: skip
    for prompt in (DEFAULT, first):
        assert asked_in(prompt, render(prompt, [PASSAGE], "Why (now)?", "key")[-1].content) == "Why (now)?"
        assert asked_in(prompt, render_support(prompt, [PASSAGE], "It rains.", "key")[-1].content) == "It rains."
    assert asked_in(DEFAULT, "Anything\nelse") == "Anything\nelse"


def test_thresholds_cannot_contradict() -> None:
    with pytest.raises(ValidationError, match="must not be above"):
        OverlapSpec(question=0.5, answered=0.9)


def test_no_case_of_the_sample_is_taken_for_another_split() -> None:
    """The train questions of the sample may be learnt from; each held-back one is found when asked again."""
    folder = ROOT / "infra" / "sample" / "cases"
    known = {name: list(read_lines(folder / f"{name}.jsonl", Case)) for name in ("train", "validation", "gate")}
    held = HeldBack([*known["validation"], *known["gate"]], OverlapSpec())
    assert [held.overlap([case.question], [case.answer]) for case in known["train"]] == [None] * len(known["train"])
    for case in known["gate"]:
        found = held.overlap([f"Please tell me: {case.question[0].lower()}{case.question[1:]}"], ["x"])
        assert found is not None
        assert plain(next(c for c in known["gate"] if c.id == found.case).question) == plain(case.question)


SPEC = CurationSpec()


def sources(rows: list[Candidate]) -> list[str]:
    return [row.row.source for row in rows]


def test_only_rows_from_elsewhere_are_taken_out_as_repeats() -> None:
    twice = ("What does the ferry to Sorrel Island cost a grown person in winter?", "It costs four euros.")
    made = [candidate(row(*twice, source=f"corpus:{n}"), DEFAULT) for n in range(3)]
    long = "Tell me all about the ferry, the quay, the boats, the harbour wall, the lights, the tides and the crew, "
    long += "and whatever else a visitor of the island may want to know before the first day of a long journey"
    others = [
        candidate(row(*twice, source="file:x:1"), DEFAULT),
        candidate(row(long, "They are old.", source="file:x:2"), DEFAULT),
        candidate(row(f"Please {long.upper()}", "They are old.", source="file:x:3"), DEFAULT),
        candidate(row("Which boats are old?", "All of them.", source="file:x:4"), DEFAULT),
    ]
    kept, refused = curate(made, others, HeldBack([], SPEC.overlap), (), SPEC)
    assert sources(kept) == ["corpus:0", "corpus:1", "corpus:2", "file:x:2", "file:x:4"]
    assert [(item.source, item.kind, item.reason.split(" (")[0]) for item in refused] == [
        ("file:x:1", "repeats", "says the same as corpus:0"),
        ("file:x:3", "repeats", "is near"),
    ]
    assert refused[1].reason.endswith("to file:x:2")


def test_held_back_documents_and_cases_are_refused_in_every_kind_of_row() -> None:
    pair = PreferenceRow(prompt=(Message(role="user", content=QUESTION),), chosen="a", rejected="b", source="file:x:9")
    rows = [
        candidate(row("Anything?", "x", source="feedback:1"), DEFAULT, ["gate.md", "other.md"]),
        candidate(pair, DEFAULT),
        candidate(row("Anything else?", "x", source="file:x:2"), DEFAULT, ["other.md"]),
    ]
    made = [candidate(row(QUESTION, "x", source="case:t-1"), DEFAULT)]
    kept, refused = curate(made, rows, HeldBack(CASES, SPEC.overlap), {"gate.md"}, SPEC)
    assert sources(kept) == ["file:x:2"]
    assert [(item.source, item.kind, item.case) for item in refused] == [
        ("case:t-1", "overlaps", "g-1"),
        ("feedback:1", "held back", ""),
        ("file:x:9", "overlaps", "g-1"),
    ]
    table = summary([*refused, Refused(source="file:a:b.jsonl:4", kind="unusable", reason="not JSON")])
    assert [(line["source"], line["why"], line["count"]) for line in table] == [
        ("a:b.jsonl", "unusable", 1), ("case", "overlaps", 1), ("feedback", "held back", 1), ("x", "overlaps", 1),
    ]  # fmt: skip


@given(names=st.lists(st.text(min_size=1, max_size=9), unique=True, min_size=1, max_size=30), seed=st.integers(0, 9))
def test_the_parts_share_no_document_and_stay(names: list[str], seed: int) -> None:
    split = Split(0.4, seed)
    rows = [candidate(row("q", "a", source=f"{n}"), DEFAULT, names[n : n + 2]) for n in range(len(names))]
    learnt, kept, torn = split.apart(rows)
    assert len(learnt) + len(kept) + len(torn) == len(rows)
    assert not {d for one in learnt for d in one.documents} & {d for one in kept for d in one.documents}
    assert Split(0.4, seed).apart(rows)[1] == kept


def test_the_share_is_about_what_was_asked_for_and_rows_without_documents_go_by_their_question() -> None:
    split = Split(0.2, 0)
    assert 0.15 < sum(split.holds(f"document {n}") for n in range(2000)) / 2000 < 0.25
    same = [candidate(row("What is it?", said, source=said), DEFAULT) for said in ("a", "b")]
    assert split.part(same[0]) == split.part(same[1])
