"""Chromium, driven by its DevTools."""

import base64
import io
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image


class Page:
    """A tab of a browser, driven by its DevTools."""

    def __init__(self, address: str) -> None:
        import websocket

        self.socket = websocket.create_connection(address, timeout=60)
        self.sent = 0
        self.told: list[dict[str, Any]] = []
        """What the browser told by itself."""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Returns what the browser answers to one command."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            told = json.loads(self.socket.recv())
            if told.get("id") == self.sent:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']['message']}")
                return told["result"]
            self.told.append(told)

    def tell(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression as soon as it says yes."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            value = self.tell(expression)
            if value:
                return value
            time.sleep(0.2)
        raise TimeoutError(f"{expression} in: {self.tell('document.body.innerText')}")

    def wait_for_text(self, text: str) -> None:
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})")

    def type_into(self, name: str, text: str) -> None:
        self.tell(f"document.querySelector('[data-testid={name}]').focus()")
        self.ask("Input.insertText", text=text)

    def picture(self) -> Image.Image:
        self.ask("Page.bringToFront")  # a tab behind another is not drawn
        shot = self.ask("Page.captureScreenshot")["data"]
        return Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")


class Browser:
    """A browser with one tab at first, `page`."""

    def __init__(self, profile: Path, width_px: int = 1200, height_px: int = 1300) -> None:
        self.pages: list[Page] = []
        self.process = subprocess.Popen(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--remote-debugging-port=0", "--remote-allow-origins=*",
                f"--user-data-dir={profile}", f"--window-size={width_px},{height_px}", "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port.is_file() and port.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.devtools = f"http://127.0.0.1:{port.read_text().split()[0]}"
        self.page = self.find_page("about:blank")

    def find_page(self, part: str) -> Page:
        """Returns the tab whose address has this part, when it is there."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.devtools}/json", timeout=10) as reply:
                tabs = json.load(reply)
            for tab in tabs:
                if tab["type"] in ("page", "iframe") and part in tab["url"]:
                    self.pages.append(Page(tab["webSocketDebuggerUrl"]))
                    return self.pages[-1]
            time.sleep(0.2)
        raise TimeoutError(f"no tab with {part}: {[tab['url'] for tab in tabs]}")

    def close(self) -> None:
        for page in self.pages:
            page.socket.close()
        self.process.kill()
        self.process.wait()
