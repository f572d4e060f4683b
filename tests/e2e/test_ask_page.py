"""The pages in a browser: a question, its sources, a rating, errors that can be read, and nothing that becomes HTML."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from infra.records import Records
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.protocol import HttpSpec
from models.serving.runtime import Runtime
from models.types import Engine
from tests.browser import Page, browser
from tests.live_gateway import RELEASE, SPEC, behind_socket, open_records

pytestmark = pytest.mark.e2e

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{{7*7}}'
ONE = SPEC.model_copy(update={"max_in_flight": 1, "max_queued": 0, "retry_after_s": 2})
KEY, ENTER = "user-key", ("Enter", 13, "\r")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return open_records(tmp_path)


def make(
    records: Records, engine: Engine, *, title: str = "Guide", text: str = "The appeal period is 14 days."
) -> FastAPI:
    chunks = [chunk(1, text).model_copy(update={"title": title})]
    policy = POLICY.model_copy(update={"grounding_min_share": 0.0})
    runtime = Runtime(lambda release, _: fake_pipeline(engine, chunks, release=release, policy=policy))
    return create_app(records, runtime, ONE, personal_data(POLICY).redact)


@asynccontextmanager
async def opened(app: FastAPI, path: str = "/") -> AsyncIterator[Page]:
    async with behind_socket(app, HttpSpec()) as port, browser() as page:
        await page.open(f"http://127.0.0.1:{port}{path}")
        yield page
        assert all(f"//127.0.0.1:{port}/" in address or address.startswith("data:") for address in page.asked)


async def ask(page: Page, question: str, key: str = KEY) -> None:
    """With the keyboard alone: the key has the focus when the page opens."""
    assert await page.run("document.activeElement.id") == "key"
    await page.type(key)
    await page.press("Tab", 9)
    assert await page.run("document.activeElement.id") == "question"
    await page.type(question)
    await page.press(*ENTER)


def shown(selector: str) -> str:
    return f"(e => e && e.checkVisibility() && e.innerText.trim().length > 0)(document.querySelector('{selector}'))"


async def test_a_question_gets_its_answer_its_sources_and_a_rating(records: Records) -> None:
    async with opened(make(records, FakeEngine("14 days [1]"))) as page:
        await ask(page, "What is the appeal period?")
        await page.until(shown("#facts"))
        assert await page.text("#answer") == "14 days"
        facts = await page.text("#facts")
        await page.run("document.querySelector('#sources summary').focus()")
        await page.press(*ENTER)
        assert await page.run("document.querySelector('#sources details').open")
        assert "The appeal period is 14 days." in await page.text("#sources blockquote")
        await page.run("document.getElementById('down').focus()")
        await page.press(*ENTER)
        await page.run("document.getElementById('correction').focus()")
        await page.type("15 days")
        await page.run("document.querySelector('#more button').click()")
        await page.until(shown("#rated"))
        assert "stored" in await page.text("#rated")
        kept = await page.run("[sessionStorage['sluice-key'], localStorage.length, document.cookie, location.href]")
        assert page.said == []
    (trace,) = records.traces()
    assert RELEASE[:12] in facts
    assert trace.trace_id in facts
    assert [(row.rating, row.correction) for row in records.feedback(trace.trace_id)] == [(-1, "15 days")]
    assert (kept[0], kept[1], kept[2]) == (KEY, 0, "")
    assert KEY not in kept[3]


async def test_hostile_titles_passages_and_answers_stay_text(records: Records) -> None:
    async with opened(make(records, FakeEngine(f"{HOSTILE} [1]"), title=HOSTILE, text=f"Days {HOSTILE}")) as page:
        await ask(page, f"Days {HOSTILE}?")
        await page.until(shown("#facts"))
        await page.run("document.querySelector('#sources details').open = true")
        for selector in ("#answer", "#sources summary", "#sources blockquote"):
            assert HOSTILE in await page.text(selector)
        assert await page.run("document.querySelectorAll('#result img, #result script').length") == 0
        assert await page.run("typeof window.hacked") == "undefined"
        assert page.said == []


async def test_errors_can_be_read(records: Records) -> None:
    app = make(records, FakeEngine("14 days [1]"))
    async with opened(app) as page:
        await ask(page, "What is the appeal period?", key="wrong")
        await page.until(shown("#notice"))
        assert "not known" in await page.text("#notice")
        assert await page.run("document.activeElement.id") == "key"
        await page.run("document.getElementById('key').value = 'user-key'")
        async with app.state.answerer.admission.place():
            await page.run("document.getElementById('ask').requestSubmit()")
            await page.until("document.getElementById('notice').innerText.includes('Too many')")
        assert "Try again in 2 seconds." in await page.text("#notice")
        records.move("production", None, expected=RELEASE)
        await page.until(
            "fetch('ready').then(reply => reply.status === 503)"
        )  # the gateway has seen that nothing is live
        await page.run("document.getElementById('ask').requestSubmit()")
        await page.until("document.getElementById('notice').innerText.includes('No release')")
        assert await page.run("document.getElementById('result').checkVisibility()") is False


async def test_what_is_no_answer_says_so(records: Records) -> None:
    replies = iter(["This is not in the documents.", "Something that no passage says [9]"])

    def reply(_: str, __: Sequence[object]) -> str:
        return next(replies)

    async with opened(make(records, FakeEngine(reply))) as page:
        await ask(page, "What is the appeal period?")
        await page.until(shown("#notice"))
        assert "Not answered" in await page.text("#notice")
        assert await page.run("document.getElementById('cited').checkVisibility()") is False


async def test_it_fits_a_phone(records: Records) -> None:
    async with opened(make(records, FakeEngine("14 days [1]"), title="L" * 300)) as page:
        await page.command(
            "Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=2, mobile=True
        )
        await ask(page, "What is the appeal period?")
        await page.until(shown("#facts"))
        assert await page.run("document.documentElement.scrollWidth <= window.innerWidth")
        sizes = await page.run("[...document.querySelectorAll('button')].map(b => b.offsetHeight).filter(h => h > 0)")
        assert min(sizes) >= 40


async def test_the_page_of_the_api_asks_with_a_key(records: Records) -> None:
    async with opened(make(records, FakeEngine("14 days [1]")), "/docs") as page:
        await page.until("document.querySelectorAll('.opblock').length > 5")
        await page.run("document.querySelector('.btn.authorize').click()")
        await page.until("!!document.querySelector('.auth-container input')")
        await page.run("document.querySelector('.auth-container input').focus()")
        await page.type(KEY)
        await page.run("document.querySelector('.auth-btn-wrapper .authorize').click()")
        await page.until("!!document.querySelector('.auth-btn-wrapper .btn-done')")
        await page.run("document.querySelector('.auth-btn-wrapper .btn-done').click()")
        await page.run("document.querySelector('#operations-With_a_key-models button').click()")
        # The button is there before its operation is read: a click on it is lost for good. The examples come after.
        await page.until("!!document.querySelector('.opblock.is-open .model-example')")
        await page.run("document.querySelector('.opblock-body .execute').click()")
        await page.until(shown(".live-responses-table tbody .response-col_status"))
        assert "200" in await page.text(".live-responses-table tbody .response-col_status")
        assert '"sluice"' in await page.text(".live-responses-table tbody .microlight")
        assert page.said == []
