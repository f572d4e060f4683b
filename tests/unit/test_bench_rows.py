"""Rows of a benchmark on its page, with the command that made them and the machine."""

from pathlib import Path

from evaluation.benches import BenchRow, machine, write_rows

ROWS = [
    BenchRow(
        name="throughput", value=1234.5678, unit="tokens/s", peer="other", peer_value=617.2, ratio=2.0002, low=1.9
    ),
    BenchRow(name="errors|all", value=0.0, unit="requests"),
]


def test_rows_are_appended_as_a_table(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n", "utf-8")
    write_rows("engine", ROWS, page)
    write_rows("retrieval", ROWS[1:], page)
    text = page.read_text("utf-8")
    assert text.startswith("# Benchmarks\n\n## engine, ")
    assert text.index("`sluice bench engine --write` on ") < text.index("`sluice bench retrieval --write` on ")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {9}
    assert "| throughput | 1235 | tokens/s | other | 617.2 | 2 | 1.9 |  |" in tables
    assert "| errors/all | 0 | requests |  |  |  |  |  |" in tables


def test_a_page_is_made_where_there_is_none(tmp_path: Path) -> None:
    write_rows("engine", ROWS, tmp_path / "docs" / "benchmarks.md")
    assert "## engine" in (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")


def test_the_machine_in_one_line() -> None:
    told = machine()
    assert "\n" not in told
    assert " cores, " in told
    assert "Python 3.11" in told
