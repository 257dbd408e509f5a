# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's Chromium without a window, spoken to by its own protocol: no driver in between, and it tells every request and every error."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --remote-debugging-port=0"
).split()
PATIENCE = 60.0  # seconds; a first start on a busy machine takes some


class Page:
    """One page of a running browser. `requests` are the addresses that it asked for, `complaints` what its console says."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0
        self._events: list[dict[str, Any]] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer; raises AssertionError when the browser refuses."""
        self._calls += 1
        number = self._calls
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE))
        if "method" in message:
            self._events.append(message)
        if message.get("method") == "Page.javascriptDialogOpening":  # "Leave the page?": yes
            self._calls += 1
            answer = {"id": self._calls, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            self._socket.send(json.dumps({**answer, "sessionId": self._session}))
        return message

    def _seen(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self._events if event["method"] == method]

    def open(self, address: str, settle: bool = True) -> None:
        """Opens an address and waits until all of it is there; without `settle` no script is needed for that."""
        self._events.clear()
        self.call("Page.navigate", url=address)
        while not self._seen("Page.loadEventFired"):
            self._receive()
        # What the page starts after it was loaded: two frames are enough for scripts, styles and their complaints.
        if settle:
            self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def show(self, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Size in CSS pixels, colour scheme, and medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of its promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, patience: float = PATIENCE) -> Any:
        """Waits until an expression is true, whatever the page loads meanwhile; returns its value."""
        deadline, last = time.monotonic() + patience, ""
        while time.monotonic() < deadline:
            try:
                if value := self.run(expression):
                    return value
            except AssertionError as error:  # between two documents there is nothing to ask
                last = str(error)
            time.sleep(0.1)
        text = self.run("location.href + '\\n' + document.body.innerText")
        raise AssertionError(f"not within {patience:.0f} s: {expression}\n{last}\n{text[:3000]}")

    def write(self, text: str) -> None:
        """Text, to where the keyboard's input goes."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, shift: bool = False, control: bool = False) -> None:
        """A key, as the keyboard gives it: `Enter`, or a letter."""
        code = {"Enter": 13}.get(key, ord(key[0].upper()))
        named = {"key": key, "code": key if len(key) > 1 else f"Key{key.upper()}", "windowsVirtualKeyCode": code}
        modifiers = 8 * shift + 2 * control
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, modifiers=modifiers, **named)

    def click(self, selector: str, which: int = 0) -> None:
        """The middle of a visible element that the selector finds (-1: the last one), with a mouse that is really there."""
        x, y = self.until(
            f"""(() => {{
              const found = [...document.querySelectorAll({json.dumps(selector)})].filter(one => one.checkVisibility()).at({which});
              if (!found) return;
              found.scrollIntoView({{block: "nearest"}});
              const box = found.getBoundingClientRect();
              return box.width && [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, without those that hold their own data."""
        addresses = [str(event["request"]["url"]) for event in self._seen("Network.requestWillBeSent")]
        return [address for address in addresses if not address.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """Uncaught exceptions, and errors and warnings on the console, among them violations of the page's security policy."""
        entries = [str(event["entry"]["text"]) for event in self._seen("Log.entryAdded")]
        calls = [str(event["type"]) for event in self._seen("Runtime.consoleAPICalled")]
        return [*entries, *calls, *(str(event["exceptionDetails"]) for event in self._seen("Runtime.exceptionThrown"))]


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser of its own with an empty profile; it ends with the block."""
    program = shutil.which("chromium")
    assert program, (
        "There is no chromium. Next step: run 'make setup', or install it by yourself where this is not Debian."
    )
    # What it puts into the folder for temporary files, it leaves there: it gets one that goes with its profile.
    temporary = profile.with_name(profile.name + "-tmp")
    temporary.mkdir()
    with subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        try:
            # No pings: a test that waits for something else reads none of their answers.
            address = _address(process, profile)
            with connect(address, proxy=None, max_size=None, open_timeout=PATIENCE, ping_interval=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    """The browser writes where it listens into its profile."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, f"chromium ended with status {process.returncode}"
        with contextlib.suppress(FileNotFoundError, ValueError):
            port, path = (profile / "DevToolsActivePort").read_text().split()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.05)
    raise AssertionError(f"chromium did not listen within {PATIENCE:.0f} s")
