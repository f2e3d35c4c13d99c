"""A headless Chromium, driven by its own protocol (CDP) over one web socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
FLAGS += ("--no-first-run", "--disable-extensions", "--remote-debugging-port=0")
DEADLINE = 90.0


def find() -> str | None:
    """The browser's command: that of $CHROME, or one on the PATH."""
    given = os.environ.get("CHROME")
    return given or next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page."""

    def __init__(self, chrome: Chrome, target: str, session: str) -> None:
        self.target = target
        self._chrome = chrome
        self._session = session

    async def call(self, method: str, **given: Any) -> Any:
        return await self._chrome.call(method, given, self._session)

    async def evaluate(self, code: str) -> Any:
        said = await self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, code: str) -> None:
        """Wait until an expression is true; while a page is loading it may fail."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                if await self.evaluate(code):
                    return
            except (AssertionError, RuntimeError):
                pass
            await asyncio.sleep(0.1)
        raise AssertionError(f"never true: {code}")

    async def click(self, selector: str) -> None:
        """As a mouse does."""
        at = await self.evaluate(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        place = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, **place)

    async def type(self, selector: str, text: str) -> None:
        await self.click(selector)
        await self.call("Input.insertText", text=text)

    async def offline(self, off: bool) -> None:
        await self.call(
            "Network.emulateNetworkConditions",
            offline=off,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    async def close(self) -> None:
        """As its cross does: the page is told, and cannot object."""
        await self._chrome.call("Target.closeTarget", {"targetId": self.target})


class Chrome:
    """The browser; `tab()` opens pages in it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def tab(self, url: str) -> Tab:
        target = (await self.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        attached = await self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab = Tab(self, target, attached["sessionId"])
        await tab.call("Network.enable")
        await tab.call("Page.enable")
        await tab.call("Page.navigate", url=url)
        return tab

    async def call(self, method: str, given: dict[str, Any], session: str | None = None) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        asked = {"id": number, "method": method, "params": given}
        await self._socket.send_json(asked | ({"sessionId": session} if session else {}))
        return await asyncio.wait_for(self._waiting[number], DEADLINE)

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            waiting = self._waiting.pop(said.get("id"), None)
            if waiting is None or waiting.done():
                continue
            if "error" in said:
                waiting.set_exception(RuntimeError(said["error"]["message"]))
            else:
                waiting.set_result(said["result"])


@asynccontextmanager
async def chrome(command: str, folder: Path) -> AsyncIterator[Chrome]:
    """Starts the browser with a profile of its own in the folder."""
    log = (folder / "chrome.log").open("w")
    process = subprocess.Popen(
        [command, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stdout=log,
        stderr=log,
    )
    try:
        port = folder / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + DEADLINE
        while not (port.exists() and port.read_text().count("\n")):
            assert process.poll() is None, (folder / "chrome.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the browser does not start"
            await asyncio.sleep(0.1)
        number, path = port.read_text().splitlines()[:2]
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=0) as socket,
        ):
            yield Chrome(socket)
    finally:
        process.terminate()
        process.wait(60)
        log.close()
