"""A page in a browser without a window, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import servers

_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")


class Page:
    """One tab.

    Attributes:
        requested: addresses that the page asked for.
        complaints: errors of its scripts and refusals of its security policy.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command of the protocol and its result."""
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    async def until(self, expression: str, seconds: float = 60) -> Any:
        """The expression's value, once it is true."""
        end = time.monotonic() + seconds
        while not (found := await self.evaluate(expression)):
            assert time.monotonic() < end, f"not within {seconds:g} s: {expression}; {self.complaints}"
            await asyncio.sleep(0.1)
        return found

    async def click(self, selector: str) -> None:
        """Click the first such element, once it is there."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    async def type(self, selector: str, text: str) -> None:
        """Write into a field, as a keyboard does."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")


@contextmanager
def started(browser: str, folder: Path) -> Iterator[int]:
    """A browser that can reach the loopback address alone; the port of its protocol."""
    profile = folder / "profile"
    marker = profile / "DevToolsActivePort"
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    command = [browser, *_OPTIONS, rules, f"--user-data-dir={profile}", "about:blank"]
    with servers.running(command, folder / "browser.log", ready=lambda: marker.is_file() and marker.stat().st_size > 0):
        yield int(marker.read_text().split()[0])


@asynccontextmanager
async def opened(port: int, url: str) -> AsyncIterator[Page]:
    """A page of that browser."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            targets = await answer.json(content_type=None)
        address = next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Network", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            await page.call("Page.navigate", url=url)
            yield page
