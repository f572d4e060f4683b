"""`sluice key`: a key is shown once, kept as a digest, listed without itself, dropped by the begin of its digest."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from infra.records import Records, key_digest
from infra.settings import settings
from models.serving.keys import caller
from tests.environment import only


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only(monkeypatch, HOME=tmp_path / "state"):
        (tmp_path / "state").mkdir()
        yield tmp_path / "state"


def key(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["key", *arguments])


def test_a_key_lets_in_whom_it_was_made_for(home: Path) -> None:
    limits = ["--requests-per-minute", "60", "--money-per-day", "2.5"]
    made = json.loads(key("add", "shop", "--tenant", "north", "--access", "public, staff", *limits, "--json").output)
    token = made["key"]
    records = Records.open(settings().database_url)
    found = caller(f"Bearer {token}", records.keys())
    records.close()
    assert found is not None
    assert (found.name, found.role, found.tenant, found.access) == ("shop", "user", "north", ["public", "staff"])
    assert found.limits == {"requests_per_minute": 60, "money_per_day": 2.5}
    assert found.digest == key_digest(token)
    assert all(token.encode() not in file.read_bytes() for file in home.rglob("*") if file.is_file())


def test_keys_are_listed_without_themselves_and_dropped() -> None:
    made = json.loads(key("add", "one", "--json").output)
    json.loads(key("add", "two", "--role", "operator", "--json").output)
    listed = key("list", "--json")
    assert made["key"] not in listed.output
    assert [(row["name"], row["role"], row["limits"]) for row in json.loads(listed.output)] == [
        ("one", "user", "as the policy says"),
        ("two", "operator", "as the policy says"),
    ]
    assert json.loads(key("drop", made["digest"], "--json").output)["name"] == "one"
    assert [row["name"] for row in json.loads(key("list", "--json").output)] == ["two"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", ""], "name: '' is not a text of 1 to 128 printable characters"),
        (["add", "x\nERROR"], "name: 'x\\nERROR' is not a text"),
        (["add", "x", "--tenant", "t" * 65], "is not a text of 1 to 64 printable characters"),
        (["add", "x", "--access", " , "], "access: name one label at least"),
        (["add", "x", "--tokens-per-minute", "0"], "tokens_per_minute: Input should be greater than or equal to 1"),
        (["drop", ""], "digest: 0 keys begin with ''"),
        (["drop", "abc"], "digest: 0 keys begin with 'abc'"),
    ],
)
def test_misuse_is_one_line(arguments: list[str], says: str) -> None:
    told = key(*arguments)
    assert told.exit_code == 2
    assert says in " ".join(told.output.split())
    assert "Traceback" not in told.output
