"""Cases are read by a mapping and refused with file and line when they contradict themselves."""

import json
from pathlib import Path

import pytest

from infra.errors import InputError
from models.cases import CaseFields, CaseSpec, EvidenceLookup, check_splits, load_cases
from models.types import Case

GOOD = {"id": "1", "question": "How much?", "answer": "6.40", "documents": ["a.md"], "split": "train"}


def write(folder: Path, *rows: object, name: str = "cases.jsonl") -> Path:
    (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return folder


def test_cases_are_read_in_order(tmp_path: Path) -> None:
    refusal = {"id": "2", "question": "Who?", "expected": "refusal", "unknown": 1}
    found = load_cases(CaseSpec(files=("cases.jsonl",)), write(tmp_path, GOOD, refusal))
    assert [(case.id, case.split, case.expected) for case in found] == [
        ("1", "train", "answer"),
        ("2", "gate", "refusal"),
    ]


def test_other_names_and_evidence_by_lookup(tmp_path: Path) -> None:
    text = "Opening lines. The price is 6.40 euros. More."
    write(tmp_path, {"id": "art", "paragraphs": ["First.", text]}, name="documents.jsonl")
    row = {"key": 7, "q": "How much?", "answer": "6.40", "document": "art", "paragraph": 1, "answer_start": 28}
    spec = CaseSpec(
        files=("cases.jsonl",),
        fields=CaseFields(id="key", question="q", documents="document"),
        lookup=EvidenceLookup(file="documents.jsonl"),
    )
    with pytest.raises(InputError, match=r"cases\.jsonl:1: id"):
        load_cases(spec, write(tmp_path, row))
    (case,) = load_cases(spec, write(tmp_path, row | {"key": "7"}))
    assert (case.documents, case.evidence) == (("art",), ("The price is 6.40 euros.",))
    with pytest.raises(InputError, match="no paragraph 9"):
        load_cases(spec, write(tmp_path, row | {"key": "7", "paragraph": 9}))
    with pytest.raises(InputError, match="no character 900"):
        load_cases(spec, write(tmp_path, row | {"key": "7", "answer_start": 900}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "needs an id and a question"),
        ({"answer": ""}, "expects an answer"),
        ({"documents": []}, "expects an answer"),
        ({"expected": "refusal"}, "expects a refusal but"),
        ({"expected": "shrug"}, "expected"),
        ({"id": "1"}, "stands at"),
    ],
)
def test_contradictions_name_file_and_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = write(tmp_path, GOOD, GOOD | {"id": "2"} | change)
    with pytest.raises(InputError, match=rf"cases\.jsonl:2: .*{message}"):
        load_cases(CaseSpec(files=("cases.jsonl",)), folder)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    spec = CaseSpec(files=("cases.jsonl",))
    with pytest.raises(InputError, match="missing"):
        load_cases(spec, tmp_path)
    (tmp_path / "cases.jsonl").write_text("\n{\n", "utf-8")
    with pytest.raises(InputError, match=r"cases\.jsonl:2: not valid JSON"):
        load_cases(spec, tmp_path)
    (tmp_path / "cases.jsonl").write_text("\n", "utf-8")
    with pytest.raises(InputError, match="no case"):
        load_cases(spec, tmp_path)


def test_a_document_in_two_splits_is_a_leak() -> None:
    cases = [Case(id=name, question="q", documents=("a",), split=name) for name in ("train", "gate")]
    with pytest.raises(InputError, match=r"a: asked about by train \(train\) and gate \(gate\)"):
        check_splits(cases)
    check_splits([cases[0], cases[0]])
