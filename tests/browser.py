# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Chromium driven through chromedriver, which speaks JSON over HTTP (W3C WebDriver).

Clicks and keys are the browser's own: a click on a covered element fails, as it would by hand.
"""

import base64
import contextlib
import http.client
import json
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_KEYS = {
    "Tab": "\ue004", "Enter": "\ue007", "Backspace": "\ue003", "Space": " ",
    "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowRight": "\ue014", "ArrowDown": "\ue015",
}  # fmt: skip


class Browser:
    """One window."""

    def __init__(self, port: int, options: dict[str, Any]):
        self._server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._path = ""
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._path = f"/session/{answer['sessionId']}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {})
        self._server.request(method, self._path + path, data)
        answer = json.loads(self._server.getresponse().read())["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"{path}: {answer['error']}: {answer['message'].splitlines()[0]}")
        return answer

    def open(self, path: pathlib.Path) -> None:
        self._ask("POST", "/url", {"url": path.resolve().as_uri()})

    def reload(self) -> None:
        self._ask("POST", "/refresh")

    def run(self, script: str) -> Any:
        """Runs the body of a function and returns its result."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def find(self, css: str) -> str:
        return self._ask("POST", "/element", {"using": "css selector", "value": css})[_ELEMENT]

    def click(self, css: str) -> None:
        self._ask("POST", f"/element/{self.find(css)}/click")

    def type(self, css: str, text: str) -> None:
        self._ask("POST", f"/element/{self.find(css)}/value", {"text": text})

    def text(self, css: str) -> str:
        return self._ask("GET", f"/element/{self.find(css)}/text")

    def shown(self, css: str) -> bool:
        return self._ask("GET", f"/element/{self.find(css)}/displayed")

    def press(self, *names: str) -> None:
        """Presses keys one after another on whatever has the focus."""
        for name in names:
            steps = [{"type": kind, "value": _KEYS[name]} for kind in ("keyDown", "keyUp")]
            source = {"type": "key", "id": "keyboard", "actions": steps}
            self._ask("POST", "/actions", {"actions": [source]})

    def accept(self) -> str:
        """Says yes to a question of the browser; returns the question."""
        text = self._ask("GET", "/alert/text")
        self._ask("POST", "/alert/accept")
        return text

    def emulate(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        self._devtools("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        self._devtools("Emulation.setEmulatedMedia", {"features": scheme})

    def _devtools(self, command: str, params: dict[str, Any]) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def screenshot(self, path: pathlib.Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """Returns warnings and errors of the console since the last call."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def quit(self) -> None:
        self._ask("DELETE", "")
        self._server.close()


@contextlib.contextmanager
def start(downloads: pathlib.Path, *, storage: bool = True) -> Iterator[Browser]:
    """Starts a browser that saves to `downloads`; it ends with the block.

    Args:
        downloads: Folder for downloaded files.
        storage: Whether pages may keep anything.
    """
    prefs: dict[str, Any] = {"download.default_directory": str(downloads.resolve())}
    if not storage:
        prefs["profile.default_content_setting_values.cookies"] = 2  # denies localStorage too
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options = {"binary": CHROMIUM, "args": arguments, "prefs": prefs}
    command = [CHROMEDRIVER, "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        try:
            port = None
            while port is None and (line := driver.stdout.readline()):
                found = re.search(r"started successfully on port (\d+)", line)
                port = found and int(found[1])
            browser = Browser(port, options)
            try:
                yield browser
            finally:
                browser.quit()
        finally:
            driver.terminate()


def wait(condition, seconds: float = 20):
    """Returns the first true value of `condition()`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.1)
    return value
