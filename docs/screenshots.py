"""The screenshots of the page: ``python docs/screenshots.py`` takes them again, in Chromium, of the shop of ``saga demo``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

STATIC: Final = Path(__file__).parent / "_static"
TOKEN: Final = "a secret for pictures"
#: For each picture: its address, the width and height of the screen, and whether that is dark.
PICTURES: Final = {
    "page-executions": ("", 1280, 760, False),
    "page-causes": ("causes", 1280, 520, True),
    "page-ask": ("causes", 1280, 520, False),
    "page-execution": ("execution?id={stuck}", 1280, 1340, False),
    "page-health": ("health", 1280, 620, False),
    "page-phone": ("execution?id={stuck}", 390, 760, True),
}


def sign_in(tab: Any, home: str) -> None:
    tab.goto(f"{home}enter")
    tab.fill("[name=name]", "ann")
    tab.fill("[name=token]", TOKEN)
    tab.press("[name=token]", "Enter")
    tab.get_by_text("as ann").wait_for()


def take(home: str, folder: Path) -> None:
    """Take all pictures into a folder."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--no-proxy-server"])
        for name, (address, width, height, dark) in PICTURES.items():
            scheme: Any = "dark" if dark else "light"
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = context.new_page()
            sign_in(tab, home)
            tab.goto(f"{home}?status=stuck")
            stuck = tab.locator("td.id").last.inner_text()
            tab.goto(home + address.format(stuck=stuck))
            tab.locator("h1").wait_for()
            if name == "page-ask":
                tab.get_by_role("button", name="retry them").first.click()
                tab.fill("[name=why]", "the bank is open again, ticket 4711")
            tab.screenshot(path=folder / f"{name}.png")
            context.close()
        browser.close()


def main(folder: Path) -> None:
    """Make the shop, serve its page, take the pictures."""
    saga = [sys.executable, "-m", "saga"]
    with tempfile.TemporaryDirectory() as work, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        home = f"http://127.0.0.1:{free.getsockname()[1]}/"
        free.close()
        subprocess.run([*saga, "demo", "shop"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        command = [*saga, "web", "--port", home.rpartition(":")[2].rstrip("/")]
        server = subprocess.Popen(command, cwd=Path(work) / "shop", env={**os.environ, "SAGA_WEB_TOKEN": TOKEN})
        try:
            for _ in range(200):
                try:
                    urlopen(home).close()
                    break
                except URLError:
                    time.sleep(0.1)
            take(home, folder)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else STATIC)
