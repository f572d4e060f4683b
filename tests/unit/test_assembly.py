"""A dataset put together: every source counted, refused rows named, no document in two parts."""

from pathlib import Path

import pytest

from infra.errors import InputError
from models.prompts import DEFAULT
from models.training.assembly import Assembled, assemble, counts_of, from_elsewhere, rows_by_rule
from models.training.data import RowMaker
from models.training.data_spec import DataSpec
from models.training.dataset import read_dataset, write_dataset
from models.training.files import FileLimits, FileSpec, gather_files
from models.training.gathered import Gathered, GatheredRow, read_gathered, write_gathered
from models.training.rows import PreferenceRow, TrainingRow
from models.types import Case, Message
from tests.unit.test_training_rows import CHUNKS, case, found

GATE = Case(id="g-1", question="How much does the pump station hold?", answer="340 cubic metres", split="gate")


def spec(**fields: object) -> DataSpec:
    return DataSpec.model_validate(fields)


def put_together(wanted: DataSpec, *gathered: Gathered) -> Assembled:
    rows = RowMaker(wanted, DEFAULT, found, CHUNKS)
    made = rows_by_rule(rows, [case()], {"gate.md"}, wanted)
    return assemble(made, from_elsewhere(gathered, DEFAULT), [GATE], {"gate.md"}, wanted)


def chat(question: str, reply: str, source: str) -> TrainingRow:
    messages = (Message(role="user", content=question), Message(role="assistant", content=reply))
    return TrainingRow(messages=messages, source=source)


def test_rows_of_every_source_are_counted_and_refused_ones_named(tmp_path: Path) -> None:
    pair = PreferenceRow(prompt=chat("Why?", "x", "").messages[:1], chosen="a", rejected="b", source="feedback:t1")
    rows = [
        GatheredRow(row=chat("Where is the depot?", "In Harrow.", "file:a.jsonl:1")),
        GatheredRow(row=chat("How much does the pump station hold?", "A lot.", "file:a.jsonl:2")),
        GatheredRow(row=chat("Where is the depot?", "In Harrow.", "teacher:c9"), documents=("new.md",)),
        GatheredRow(row=chat("Is the lid checked?", "Yes.", "teacher:c8"), documents=("gate.md",)),
        GatheredRow(row=pair, documents=("new.md",)),
    ]
    write_gathered(tmp_path, Gathered(rows, []))
    made = put_together(spec(preference_pairs=4), read_gathered(tmp_path))
    counts = counts_of(made.dataset)
    assert (counts["from_files"], counts["from_feedback"], counts["from_teacher"]) == (1, 1, 0)
    assert (counts["pairs"], counts["validation_rows"]) == (5, 0)
    assert counts["from_cases"] + counts["from_corpus"] + 2 == counts["rows"] + counts["pairs"]
    assert [(item.source, item.kind) for item in made.refused] == [
        ("file:a.jsonl:2", "overlaps"),
        ("teacher:c8", "held back"),
        ("teacher:c9", "repeats"),
    ]
    write_dataset(tmp_path / "data", made.dataset)
    assert read_dataset(tmp_path / "data") == made.dataset


@pytest.mark.parametrize("seed", range(6))
def test_parts_share_no_document_not_even_by_further_questions(seed: int) -> None:
    dataset, refused = put_together(spec(validation_share=0.5, seed=seed, preference_pairs=8, support_share=0))
    documents = {chunk.id: chunk.document for chunk in CHUNKS}

    def named(rows: object) -> set[str]:
        assert isinstance(rows, list)
        sources = {row.source for row in rows}
        return {documents.get(source.partition(":")[2], "rules.md") for source in sources}

    assert not refused
    assert not named([*dataset.rows, *dataset.pairs]) & named([*dataset.validation, *dataset.validation_pairs])
    texts = {chunk.document: chunk.text for chunk in CHUNKS}
    for rows in (dataset.rows, dataset.validation):
        own = named(list(rows))
        for row in rows:
            said = [message.content for message in row.messages if message.role == "assistant"]
            for reply in said:
                words = reply.partition(" [")[0]
                assert any(words in texts[name] for name in own) or row.refusal, reply


def test_without_a_share_everything_is_learnt() -> None:
    dataset, _ = put_together(spec())
    assert dataset.rows
    assert (dataset.validation, dataset.validation_pairs, dataset.pairs) == ([], [], [])


def test_files_are_gathered_with_their_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(
        '{"question": "Which river?", "answer": "The Lissen.", "document": "rivers.md"}\n{"question": "Which?"}\n'
    )
    (tmp_path / "two.csv").write_text("prompt,chosen,rejected\nWhich?,a,b\n")
    files = (FileSpec(path="one.jsonl"), FileSpec(path="two.csv"))
    gathered = gather_files(files, FileLimits(max_bad_share=0.5), tmp_path)
    assert [(one.row.source, one.documents) for one in gathered.rows] == [
        ("file:one.jsonl:1", ("rivers.md",)),
        ("file:two.csv:2", ()),
    ]
    assert [(item.source, item.kind) for item in gathered.refused] == [("file:one.jsonl:2", "unusable")]
    with pytest.raises(InputError, match=r"one\.jsonl:2"):
        gather_files(files, FileLimits(), tmp_path)


def test_the_part_by_rule_is_the_same_whatever_else_is_asked_for() -> None:
    assert spec(preference_pairs=3, files=[{"path": "a"}], seed=4).by_rule == spec(seed=4, feedback={}).by_rule
