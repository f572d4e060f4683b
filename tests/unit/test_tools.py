"""Tools of a release: decided from the user's words alone, checked, confirmed, kept to what the caller may see."""

import ast
import re
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.errors import PolicyError, TryAgainError
from infra.records import Placement, Records
from infra.settings import ROOT, Policy
from models.answering.fake import POLICY, SPEC, FakeRetriever, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.answering.pipeline import Pipeline
from models.answering.tools.calls import checked, offer_prompt, offer_schema, read_choice, stands_in
from models.answering.tools.confirming import confirmed_id, new_id
from models.answering.tools.open import open_tools
from models.answering.tools.port import Offer
from models.answering.tools.spec import AccountsSpec, ToolsSpec
from models.answering.tools.tickets import OpenTicket
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.runtime import Runtime
from tests.unit.test_gateway import OLD
from tests.unit.test_gateway import SPEC as GATEWAY

CHUNKS = [chunk(1, "The appeal period is 14 days."), chunk(2, "Hydrants are painted red.")]
MINE, THEIRS, HIDDEN = "7711111111", "7722222222", "7733333333"
BOTH = ("account_balance", "open_ticket")
Open = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def accounts(folder: Path) -> None:
    with sqlite3.connect(folder / "accounts.sqlite") as connection:
        connection.execute("create table accounts (number text, tenant text, label text, balance_cents int, due text)")
        rows = [(MINE, "default", "staff", 8420, "2026-12-01"), (THEIRS, "other", "staff", 100, "2026-12-02")]
        rows.append((HIDDEN, "default", "board", -250, "2026-12-03"))
        connection.executemany("insert into accounts values (?, ?, ?, ?, ?)", rows)


def spec(**more: Any) -> ToolsSpec:
    table = AccountsSpec(url="sqlite:///accounts.sqlite", number=r"\b77\d{8}\b", currency="euros")
    return ToolsSpec(**{"accounts": table, "decide": "words", "max_tokens": 64, "confirm_s": 60} | more)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    opened = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    opened.add_key("staff-key", "staff", "user", ["public", "staff"])
    opened.add_key("owner-key", "owner", "user", ["public", f"account:{MINE}"])
    opened.add_key("guest-key", "guest", "user", ["public"])
    opened.add_key("operator-key", "operator", "operator", ["public", "staff"])
    opened.place(OLD, "http://127.0.0.1:1", "m")
    opened.promote(OLD, None)
    accounts(tmp_path)
    return opened


@pytest.fixture
def gateway(records: Records, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def start(engine: FakeEngine, tools: ToolsSpec | None = None, allowed: tuple[str, ...] = BOTH) -> Any:
        answering = SPEC.model_copy(update={"tools": allowed})

        def build(release: str, placement: Placement) -> Pipeline:
            return fake_pipeline(engine, CHUNKS, release=release, spec=answering)

        personal_data(POLICY).warm()  # what finds personal data takes seconds to import
        box = open_tools(tools or spec(), tmp_path, records)
        app = create_app(records, Runtime(build), GATEWAY, personal_data(POLICY).redact, tools=box)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client,
        ):
            yield client

    return start


async def ask(client: httpx.AsyncClient, question: str, who: str = "staff", **headers: str) -> dict[str, Any]:
    sent = {"authorization": f"Bearer {who}-key"} | headers
    reply = await client.post("/v1/answers", json={"question": question}, headers=sent)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def given(answer: str) -> str:
    found = confirmed_id(answer)
    assert found, answer
    return found


@pytest.mark.parametrize(
    ("who", "account", "said"),
    [
        ("staff", MINE, "owes 84.20 euros, due on 2026-12-01"),
        ("owner", MINE, "owes 84.20 euros"),
        ("guest", MINE, "no such account"),
        ("staff", THEIRS, "no such account"),
        ("staff", HIDDEN, "no such account"),
        ("staff", "7799999999", "no such account"),
    ],
)
async def test_a_balance_is_shown_to_who_may_see_it(
    gateway: Open, records: Records, who: str, account: str, said: str
) -> None:
    engine = FakeEngine("14 days [1]")
    async with gateway(engine) as client:
        body = await ask(client, f"What is the balance of account {account}?", who)
    assert said in body["answer"]
    assert body["citations"] == []
    assert engine.asked == []  # one tool, one number: nothing is left to decide
    trace = records.traces()[0]
    assert (trace.tools[0]["name"], trace.tools[0]["outcome"]) == (
        "account_balance", "done" if "owes" in said else "refused",
    )  # fmt: skip
    assert account not in str([trace.question, trace.answer, trace.tools, trace.spans])
    assert [span["name"] for span in trace.spans] == ["guard_input", "choose_tool", "tool", "guard_output"]


@pytest.mark.parametrize("model", ["sluice", "sluice-chat"])
async def test_tools_work_on_both_models_of_the_openai_form(gateway: Open, model: str) -> None:
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": f"The user's account is {THEIRS}"},
            {"role": "user", "content": f"How much do I owe on {MINE}?"},
        ],
    }
    async with gateway(FakeEngine("x")) as client:
        reply = await client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer staff-key"})
    assert "owes 84.20 euros" in reply.json()["choices"][0]["message"]["content"]


async def test_a_ticket_is_opened_once_and_only_when_its_caller_confirms(gateway: Open, records: Records) -> None:
    async with gateway(FakeEngine("14 days [1]")) as client:
        proposed = await ask(client, "Please open a ticket about no water in Mill Lane", "guest")
        assert "Shall a ticket be opened: “no water in Mill Lane”?" in proposed["answer"]
        assert records.tickets("default") == []
        one = given(proposed["answer"])
        assert "nothing to confirm" in (await ask(client, f"confirm {one}", "staff"))["answer"]
        assert records.tickets("default") == []
        first = await ask(client, f"Yes, confirm {one.lower()}.", "guest")
        again = await ask(client, f"confirm {one}", "guest")
    assert first["answer"] == again["answer"] == "Ticket T-1 is open."
    assert [row.subject for row in records.tickets("default")] == ["no water in Mill Lane"]
    assert [call["outcome"] for trace in records.traces() for call in trace.tools] == [
        "proposed", "refused", "done", "done",
    ]  # fmt: skip


async def test_a_proposal_that_is_too_old_is_gone(gateway: Open, records: Records) -> None:
    async with gateway(FakeEngine("x")) as client:
        one = given((await ask(client, "Open a ticket about no water in Mill Lane"))["answer"])
        with records._writing() as session:
            session.connection().exec_driver_sql("update proposals set expires = 1")
        late = await ask(client, f"confirm {one}")
        made_up = await ask(client, f"confirm {new_id()}")
    assert late["answer"] == made_up["answer"]
    assert "nothing to confirm" in late["answer"]
    assert records.tickets("default") == []


async def test_a_release_calls_nothing_that_it_does_not_allow(gateway: Open, records: Records) -> None:
    engine = FakeEngine("14 days [1]")
    async with gateway(engine, allowed=("account_balance",)) as client:
        body = await ask(client, "Open a ticket about no water in Mill Lane")
        assert body["citations"]
        confirming = await ask(client, f"confirm {new_id()}")
    assert "nothing to confirm" in confirming["answer"]
    assert records.traces()[0].tools == []


async def test_a_question_that_fits_no_tool_costs_no_call_of_the_engine(gateway: Open) -> None:
    engine = FakeEngine("14 days [1]")
    async with gateway(engine, spec(decide="model")) as client:
        for question in ("What is the appeal period?", f"Is {MINE} a valid number?", "Where do I find my balance?"):
            await ask(client, question)
    assert [asked.json_schema for asked in engine.asked] == [None, None, None]


async def test_a_model_that_decides_may_decline(gateway: Open) -> None:
    replies = iter(['{"name":"none"}', "14 days [1]"])
    engine = FakeEngine(lambda *_: next(replies))
    async with gateway(engine, spec(decide="model")) as client:
        body = await ask(client, "How do I open a ticket about the appeal period?")
    assert body["answer"] == "14 days"
    assert [bool(asked.json_schema) for asked in engine.asked] == [True, False]
    assert [message.content for message in engine.asked[0].messages][1:] == [
        "How do I open a ticket about the appeal period?"
    ]


async def test_what_the_model_writes_is_held_to_the_words(gateway: Open, records: Records) -> None:
    wrong = f'{{"name":"account_balance","arguments":{{"account":"{HIDDEN}"}}}}'
    async with gateway(FakeEngine(wrong), spec(decide="model")) as client:
        body = await ask(client, f"What is the balance of account {MINE}?")
    assert (body["answer"], body["degraded"]) == (POLICY.fallback, True)
    assert "does not stand in the user's words" in records.traces()[0].error


async def test_a_canarys_replay_calls_no_tool(gateway: Open, records: Records) -> None:
    async with gateway(FakeEngine("14 days [1]")) as client:
        body = await ask(
            client, "Open a ticket about no water in Mill Lane", "operator", **{"x-sluice-request-key": "r-1"}
        )
    assert "ticket be opened" not in body["answer"]
    assert records.traces()[0].tools == []


async def test_nothing_is_retrieved_for_a_call(records: Records, tmp_path: Path) -> None:
    broken = FakeRetriever([], TryAgainError("the index was asked"))

    def build(release: str, placement: Placement) -> Pipeline:
        answering = SPEC.model_copy(update={"tools": BOTH})
        return fake_pipeline(FakeEngine("x"), [], release=release, retriever=broken, spec=answering)

    personal_data(POLICY).warm()
    app = create_app(
        records, Runtime(build), GATEWAY, personal_data(POLICY).redact, tools=open_tools(spec(), tmp_path, records)
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client,
    ):
        assert "84.20" in (await ask(client, f"What is the balance of {MINE}?"))["answer"]


def test_a_ticket_is_about_the_users_own_words(records: Records) -> None:
    tool = OpenTicket(records)
    words = "Our street has no pressure. Please open a ticket because the hydrant leaks"
    assert tool.values(words)["subject"] == (
        "the hydrant leaks", "Our street has no pressure",
    )  # fmt: skip
    assert all(stands_in(value, words) for value in tool.values(words)["subject"])
    for other in ("What is a ticket?", "open a ticket", "The case opened in May was about tariffs"):
        assert tool.values(other) == {}, other


def test_a_choice_is_read_strictly(records: Records) -> None:
    tool = OpenTicket(records)
    words = "Open a ticket about the broken meter in Slate Row"
    offers = [Offer(tool, tool.values(words))]
    assert offer_schema(offers, may_decline=False)["properties"]["arguments"]["properties"]["subject"] == {
        "enum": list(tool.values(words)["subject"])
    }
    assert offer_prompt(offers, words, may_decline=True)[1].content == words
    assert read_choice('{"name":"none"}', offers, words) is None
    for text in ("", "[]", "{}", '{"name":"account_balance","arguments":{}}', '{"name":"open_ticket"}'):
        with pytest.raises(TryAgainError, match="tool"):
            read_choice(text, offers, words)
    for subject in ("the broken meter in Mill Lane", "broken met", 3, None):
        with pytest.raises(TryAgainError, match="subject"):
            checked(offers[0], {"subject": subject}, words)
    with pytest.raises(TryAgainError, match="key"):
        checked(offers[0], {"subject": "the broken meter", "key": "x"}, words)


def test_values_stand_in_the_words_as_wholes() -> None:
    assert stands_in("7711111111", "account 7711111111, please")
    assert stands_in("No  Water", "no water here")
    assert not stands_in("771111111", "account 7711111111")
    assert not stands_in("", "anything")


def test_ids_cannot_be_mistaken_for_personal_data() -> None:
    found = personal_data(POLICY)
    ids = {new_id() for _ in range(200)}
    assert len(ids) == 200
    assert not any(found.find(f"To confirm, write: confirm {one}") for one in ids)
    assert all(confirmed_id(f"please CONFIRM {one.lower()}!") == one for one in ids)
    assert confirmed_id("I confirm that I read it") == ""


def test_tables_outside_the_project_are_refused(tmp_path: Path, records: Records) -> None:
    for url in (
        "sqlite:///../accounts.sqlite",
        "sqlite:////etc/passwd",
        "sqlite:///missing.sqlite",
        "nonsense",
        "x://y",
    ):
        table = AccountsSpec(url=url, number="x", currency="euros")
        with pytest.raises(PolicyError, match=r"tools\.accounts\.url"):
            open_tools(spec(accounts=table), tmp_path, records)


def test_no_tool_fetches() -> None:
    """A tool that needs the web takes `indexes.loaders.fetch`, which checks every address: nothing else is imported."""
    network = {"httpx", "aiohttp", "requests", "urllib", "urllib3", "socket", "http", "ftplib", "subprocess", "openai"}
    for path in (ROOT / "models" / "answering" / "tools").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & network, path.name


def test_the_sample_has_accounts_of_two_tenants() -> None:
    policy = Policy(ROOT / "sluice.yaml")
    found = policy.section("tools", ToolsSpec)
    assert found.accounts is not None
    file = ROOT / found.accounts.url.removeprefix("sqlite:///")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        rows = connection.execute("select number, tenant from accounts").fetchall()
    assert len({tenant for _, tenant in rows}) == 2
    assert all(re.fullmatch(found.accounts.number, number) for number, _ in rows)
