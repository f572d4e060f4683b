"""A headless Chromium over its DevTools protocol, for tests that look at a page as a person does."""

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """One tab. `said` is what its console and its Content-Security-Policy said, `asked` every address it asked."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: list[str] = []
        self.asked: list[str] = []

    async def listen(self) -> None:
        """Take what the browser sends, until it is gone."""
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif message["method"] == "Log.entryAdded":
                self.said.append(message["params"]["entry"]["text"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.said.append(str(message["params"]["exceptionDetails"]))
            elif message["method"] == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        message = await asyncio.wait_for(self._waiting[number], 30)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, address: str) -> None:
        """Go there, and wait until it is loaded."""
        await self.command("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = await self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Return when an expression is true in the page. Fails with what the page shows instead."""
        try:
            async with asyncio.timeout(60):
                while not await self.run(script):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            shown = await self.run("document.body.innerText")
            pytest.fail(f"never true: {script}\nasked: {self.asked[-3:]}\nsaid: {self.said}\nshown: {shown[-2000:]}")

    async def type(self, text: str) -> None:
        """Into what has the focus."""
        await self.command("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """A key of the keyboard, by its name and number."""
        for kind in ("keyDown", "keyUp"):
            given = {"text": text} if text and kind == "keyDown" else {}
            await self.command("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **given)

    async def text(self, selector: str) -> str:
        """What is to be read there."""
        found: str = await self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found


def chromium() -> str:
    """Path of the browser; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium on this machine")
    return found


@asynccontextmanager
async def browser(width: int = 1000, height: int = 800) -> AsyncIterator[Page]:
    """A tab of a fresh browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # it does not start for root otherwise
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(chromium(), *options, "about:blank", stdout=quiet, stderr=quiet)
        try:
            async with websockets.connect(await _address(Path(profile)), max_size=None) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.command(f"{domain}.enable")
                yield page
                listening.cancel()
        finally:
            process.terminate()
            await process.wait()


async def _address(profile: Path) -> str:
    """Where the first tab listens: the browser writes its port down."""
    async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
        while True:
            if port := _port(profile):
                targets = (await client.get(f"http://127.0.0.1:{port}/json")).json()
                found: list[str] = [one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page"]
                if found:
                    return found[0]
            await asyncio.sleep(0.05)


def _port(profile: Path) -> str:
    """Its port, or an empty text while it starts."""
    written = profile / "DevToolsActivePort"
    words = written.read_text().split() if written.exists() else []
    return words[0] if words else ""
