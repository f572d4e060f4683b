"""Training files: formats told by their content, every bad row named with its line, nothing that crashes the reader."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import InputError
from infra.store import json_line
from models.training.files import BAD_LISTED, FileLimits, FileSpec, TrainingFile, read_training_file
from models.training.formats import FORMATS, RowError, document_of, format_of, row_of
from models.training.rows import PreferenceRow, TrainingRow

ALPACA = {"instruction": "Name the river.", "input": "It feeds the reservoir.", "output": "The Lissen."}
DOLLY = {"instruction": "Name the river.", "context": "", "response": "The Lissen.", "category": "open_qa"}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Which river?"},
        {"role": "assistant", "content": "The Lissen."},
    ]
}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "Which river?"}, {"from": "gpt", "value": "The Lissen."}],
    "system": "Be brief.",
}
PAIR = {"prompt": "Which river?", "chosen": "The Lissen.", "rejected": "The Harrow."}
ULTRA = {
    "prompt": "Which river?",
    "chosen": [{"role": "user", "content": "Which river?"}, {"role": "assistant", "content": "The Lissen."}],
    "rejected": [{"role": "user", "content": "Which river?"}, {"role": "assistant", "content": "The Harrow."}],
    "messages": [{"role": "user", "content": "Which river?"}, {"role": "assistant", "content": "The Lissen."}],
    "score_chosen": 8.0,
}
TRL = {
    "prompt": [{"role": "user", "content": "Which river?"}],
    "chosen": [{"role": "assistant", "content": "The Lissen."}],
    "rejected": [{"role": "assistant", "content": "The Harrow."}],
}
COMPLETION = {"prompt": "The river is called", "completion": " the Lissen."}
TEXT = {"text": "The Lissen is a river of the north."}


def write(folder: Path, *rows: Any, name: str = "rows.txt") -> Path:
    """JSON lines; a text is a line as it stands."""
    path = folder / name
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def read(path: Path, share: float = 0.0, format: str = "auto", **limits: Any) -> TrainingFile:
    spec = FileSpec.model_validate({"path": f"data/{path.name}", "format": format})
    return read_training_file(path, spec, FileLimits(max_bad_share=share, **limits))


def said(row: TrainingRow | PreferenceRow) -> list[tuple[str, str]]:
    messages = row.messages if isinstance(row, TrainingRow) else row.prompt
    return [(message.role, message.content) for message in messages]


QUESTION = ("user", "Which river?")


@pytest.mark.parametrize(
    ("fields", "format", "expected"),
    [
        (
            ALPACA,
            "instruction",
            [("user", "Name the river.\n\nIt feeds the reservoir."), ("assistant", "The Lissen.")],
        ),
        (ALPACA | {"text": "Below is an instruction …"}, "instruction", None),
        (DOLLY, "instruction", [("user", "Name the river."), ("assistant", "The Lissen.")]),
        (
            {"question": "Which river?", "answer": "The Lissen."},
            "instruction",
            [QUESTION, ("assistant", "The Lissen.")],
        ),
        (CHAT, "chat", [("system", "Be brief."), QUESTION, ("assistant", "The Lissen.")]),
        (SHAREGPT, "chat", [("system", "Be brief."), QUESTION, ("assistant", "The Lissen.")]),
        (PAIR, "preference", [QUESTION]),
        (ULTRA, "preference", [QUESTION]),
        (TRL, "preference", [QUESTION]),
        ({name: ULTRA[name] for name in ("chosen", "rejected")}, "preference", [QUESTION]),
        (COMPLETION, "completion", [("user", "The river is called"), ("assistant", " the Lissen.")]),
        (TEXT, "completion", [("assistant", TEXT["text"])]),
    ],
)
def test_a_format_is_told_by_its_fields(
    fields: dict[str, Any], format: str, expected: list[tuple[str, str]] | None, tmp_path: Path
) -> None:
    found = read(write(tmp_path, fields))
    assert (found.format, found.bad, len(found.rows)) == (format, [], 1)
    row = found.rows[0].row
    assert row.source == "file:data/rows.txt:1"
    if expected:
        assert said(row) == expected
    if isinstance(row, PreferenceRow):
        assert (row.chosen, row.rejected) == ("The Lissen.", "The Harrow.")
    else:
        assert row.is_text is (fields is TEXT)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instruction": "Name it."}, "the field `output` is missing"),
        (ALPACA | {"output": "  "}, "`output` is empty"),
        (ALPACA | {"output": 42}, "`output` is no text but a number"),
        (ALPACA | {"output": "\ud800"}, "`output` holds .* no UTF-8"),
        ({"messages": []}, "`messages` has no message"),
        ({"messages": "hello"}, "`messages` is no list of messages but of type str"),
        ({"messages": [CHAT["messages"][0]]}, "nothing but a system message"),
        ({"messages": CHAT["messages"][:2]}, "ends with a message of user"),
        ({"messages": CHAT["messages"][2:]}, "message 0 of `messages` is of assistant, not user"),
        ({"messages": [*CHAT["messages"], CHAT["messages"][2]]}, "message 3 of `messages` is of assistant"),
        ({"messages": [CHAT["messages"][1], CHAT["messages"][0]]}, "message 1 of `messages` is of system"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"`messages\[0\].role` is 'tool'; known are"),
        ({"messages": [{"role": "user", "content": None}]}, r"`messages\[0\].content` is no text but of type NoneType"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "pictures and calls cannot be learnt"),
        ({"messages": [CHAT["messages"][1], CHAT["messages"][2] | {"weight": 0}]}, "has weight 0"),
        ({"chosen": "a", "rejected": "b"}, "the field `prompt` is missing"),
        (PAIR | {"rejected": None}, "the field `rejected` is missing"),
        (PAIR | {"rejected": " The Lissen. "}, "`chosen` and `rejected` are the same"),
        (PAIR | {"rejected": TRL["prompt"]}, "`rejected` ends with a message of user, not with an answer"),
        (ULTRA | {"rejected": TRL["rejected"]}, "differ before their last answer"),
        ({"prompt": "The river is called"}, "the field `completion` is missing"),
        ({"text": ""}, "`text` is empty"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(fields: dict[str, Any], reason: str) -> None:
    form = format_of(fields)
    assert form is not None
    with pytest.raises(RowError, match=reason):
        row_of(fields, form, "x")


def test_parts_of_text_and_a_named_document_are_taken(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Which"}, {"type": "text", "text": "river?"}]
    row = {"messages": [{"role": "user", "content": parts}, CHAT["messages"][2]], "document": "rivers.md"}
    found = read(write(tmp_path, row))
    assert said(found.rows[0].row)[0] == ("user", "Which\nriver?")
    assert found.rows[0].document == "rivers.md"
    assert document_of({"document": 7}) == ""


def test_every_bad_row_is_named_with_its_line_and_the_good_ones_are_kept(tmp_path: Path) -> None:
    lines = [ALPACA, "", "{broken", ALPACA | {"output": ""}, '["a list"]', {"colour": "red"}, "x" * 3000, DOLLY]
    path = write(tmp_path, *lines)
    with path.open("ab") as stream:
        stream.write(b'{"instruction": "caf\xe9", "output": "x"}\n')
    found = read(path, share=0.8, max_line_bytes=2000)
    assert [row.row.source for row in found.rows] == ["file:data/rows.txt:1", "file:data/rows.txt:8"]
    reasons = {row.line: row.reason for row in found.bad}
    assert sorted(reasons) == [3, 4, 5, 6, 7, 9]
    for line, words in {3: "not JSON", 4: "`output` is empty", 5: "no JSON object", 6: "no known format (colour)",
                        7: "longer than 2000 bytes", 9: "not UTF-8"}.items():  # fmt: skip
        assert words in reasons[line]
    with pytest.raises(InputError, match=r"6 of 8 rows cannot be used.*70\.0%.*data/rows\.txt:3: not JSON"):
        read(path, share=0.7, max_line_bytes=2000)


def test_a_mixed_file_names_the_line_where_the_format_changes(tmp_path: Path) -> None:
    path = write(tmp_path, CHAT, SHAREGPT, PAIR, CHAT)
    found = read(path, share=0.5)
    assert (found.format, len(found.rows)) == ("chat", 3)
    assert [(row.line, row.reason.split(";")[0]) for row in found.bad] == [
        (3, "the format changes: this row is preference, the file's are chat")
    ]
    with pytest.raises(InputError, match=r"rows\.txt:3: the format changes"):
        read(path)


def test_a_forced_format_is_taken_at_its_word(tmp_path: Path) -> None:
    found = read(write(tmp_path, ULTRA), format="chat")
    assert (found.format, said(found.rows[0].row)) == ("chat", [QUESTION, ("assistant", "The Lissen.")])
    with pytest.raises(InputError, match="the field `messages` is missing"):
        read(write(tmp_path, ALPACA), format="chat")


def test_the_list_of_bad_rows_is_bounded_and_their_count_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, ALPACA, *["{"] * (BAD_LISTED + 5))
    found = read(path, share=0.9999)
    assert (len(found.bad), found.bad_count) == (BAD_LISTED, BAD_LISTED + 5)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_has_its_lines(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([ALPACA, {"instruction": "x"}, 7], indent=indent).encode())
    found = read(path, share=0.7)
    assert [row.line for row in found.bad] == ([1, 1] if indent is None else [7, 10])
    for broken in ("[{}, ", "[{} {}]", "[{}] more", "[" * 100_000, "[\udcff]"):
        path.write_bytes(broken.encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match=r"rows\.json"):
            read(path)


def test_tables_are_read_like_lines(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = tmp_path / "rows.bin"
    parquet.write_table(pyarrow.Table.from_pylist([ULTRA, ULTRA | {"rejected": ULTRA["chosen"]}]), table)
    found = read(table, share=0.5)
    assert (found.format, len(found.rows), found.bad[0].line) == ("preference", 1, 2)
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(InputError, match="Parquet that cannot be read"):
        read(table)
    sheet = tmp_path / "rows.dat"
    with sheet.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([["instruction", "input", "output"], ["one\ntwo", "", "three"], ["a", "b"], [*"abcd"]])
    found = read(sheet, share=0.7)
    assert said(found.rows[0].row) == [("user", "one\ntwo"), ("assistant", "three")]
    assert [(row.line, row.reason) for row in found.bad] == [
        (4, "the field `output` is missing"),
        (5, "more cells than the header has"),
    ]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    for content, reason in ((b"", "no row in it"), (b"hello\n", "no row of a known format.*:1: not JSON"),
                            (b'{"colour": 1}', r"fields of no known format \(colour\)")):  # fmt: skip
        path = tmp_path / "rows"
        path.write_bytes(content)
        with pytest.raises(InputError, match=reason):
            read(path)
    with pytest.raises(InputError, match="is missing"):
        read(tmp_path / "nowhere")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "text", "weight"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = [
    *("instruction", "input", "output", "prompt", "completion", "text", "messages", "conversations"),
    *("chosen", "rejected", "system", "question", "answer", "response", "context", "document"),
]
ROWS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), VALUES, max_size=6)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(fields=ROWS, forced=st.sampled_from(FORMATS))
def test_any_object_is_a_row_or_has_a_reason(fields: dict[str, Any], forced: str) -> None:
    for form in (format_of(fields), forced):
        if form is None:
            continue
        try:
            row = row_of(fields, form, "x")  # type: ignore[arg-type]
        except RowError as error:
            assert str(error)
        else:
            json_line(row).encode()
            learnt = row.messages[-1].content if isinstance(row, TrainingRow) else row.chosen
            assert learnt.strip()


@FUZZ
@given(
    parts=st.lists(
        st.binary(max_size=40)
        | ROWS.map(lambda row: json.dumps(row).encode())
        | st.sampled_from(
            [b"PAR1", b"[", b"]", b",", b"{", b"text", b"prompt,completion", b"\xef\xbb\xbf", b'"', b"\0"]
        ),
        max_size=8,
    ),
    glue=st.sampled_from([b"\n", b",", b"\r\n", b""]),
    format=st.sampled_from(["auto", *FORMATS]),
)
def test_any_bytes_are_read_or_refused(parts: list[bytes], glue: bytes, format: str, tmp_path: Path) -> None:
    path = tmp_path / "fuzzed"
    path.write_bytes(glue.join(parts))
    try:
        found = read(path, share=0.99, format=format)
    except InputError as error:
        assert "data/fuzzed" in str(error)
    else:
        assert found.rows
        for row in found.rows:
            json_line(row.row).encode()
        assert all(row.reason and row.line >= 1 for row in found.bad)


@FUZZ
@given(place=st.integers(0, 400), byte=st.integers(0, 255), base=st.sampled_from([ALPACA, CHAT, ULTRA, TRL, SHAREGPT]))
def test_a_damaged_byte_costs_one_row_at_most(place: int, byte: int, base: dict[str, Any], tmp_path: Path) -> None:
    whole = (json.dumps(base) + "\n").encode()
    damaged = bytearray(whole)
    damaged[place % (len(whole) - 1)] = byte
    path = tmp_path / "damaged"
    path.write_bytes(whole + bytes(damaged) + whole)
    found = read(path, share=0.7)
    assert len(found.rows) >= 2
    assert {row.line for row in found.bad} <= {2, 3}, "a byte may become the end of a line"
