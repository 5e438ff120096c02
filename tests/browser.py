"""A headless Chromium driven over the DevTools protocol, with what it logged and asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import websocket

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]


AXE = """
axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations
  .filter((one) => ['serious', 'critical'].includes(one.impact))
  .map((one) => `${one.id}, ${one.nodes.length} times: ${one.nodes.slice(0, 3)
    .map((node) => node.target.join(' ') + ' ' + node.html.slice(0, 120)).join(' | ')}`))
"""


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        path = shutil.which(name)
        if path:
            return path
    return None


class Browser:
    """One tab. Requests and console messages are collected from its first navigation on."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [str(find_chromium()), *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.events: list[dict[str, Any]] = []
        self.number = 0
        self.socket = websocket.create_connection(self._address(), timeout=60)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _address(self) -> str:
        """The tab's socket, once Chromium has written its port down."""
        note = Path(self.folder.name) / "DevToolsActivePort"
        for _ in range(600):
            if note.exists() and note.read_text().strip():
                break
            time.sleep(0.1)
        port = note.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            tabs = json.load(answer)
        return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way are collected."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression; a promise is waited for.

        An expression that a change of page cut short is asked again on the new page.
        """
        for attempt in range(20):
            try:
                answer = self.call(
                    "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
                )
                break
            except AssertionError as error:
                if attempt == 19 or "navigated or closed" not in str(error):
                    raise
                time.sleep(0.05)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"never became true: {script}")

    def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded; forgets earlier events."""
        self.run("1")
        self.events.clear()
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < end, f"{url} never finished loading"
            self.run("1")
            time.sleep(0.02)

    def emulate(self, width: int, height: int, theme: str = "light", motion: str = "") -> None:
        """A window of this size, in the light or in the dark, with or without reduced motion."""
        phone = {"deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, **phone)
        wanted = {"prefers-color-scheme": theme, "prefers-reduced-motion": motion}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def axe(self, script: str) -> list[str]:
        """Serious and critical findings of axe-core on the page that is open.

        Args:
            script: the source of axe-core.
        """
        self.run(f"{script};0")
        found: list[str] = self.run(AXE)
        return found

    def errors(self) -> list[str]:
        """Console errors and uncaught exceptions since the page was opened."""
        self.run("1")
        found = []
        for event in self.events:
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] == "error":
                found.append(
                    str([a.get("value", a.get("description")) for a in parameters["args"]])
                )
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, data: and blob: left out.

        The page before may still be asking, above all one that leads on to another.
        """
        here = self.run("location.href.split('#')[0]")
        found = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
            and event["params"]["documentURL"].split("#")[0] == here
        ]
        return [url for url in found if not url.startswith(("data:", "blob:"))]

    def close(self) -> None:
        """End Chromium and forget its profile."""
        self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()
