"""Draws what a command printed as a picture for the README: `python -m tests.terminal_picture OUT.png < output`.

The text is a real run's; only its frame is drawn. The browser does the drawing, so letters and QR codes look as they do
in a terminal.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; display: inline-block; background: #11151a; padding: 14px 18px; }}
pre {{ margin: 0; color: #e6e9ec; font: 15px/1.2 "DejaVu Sans Mono", monospace; }}
b {{ color: #8fd19e; }}
</style><pre>{text}</pre>"""


def draw(text: str, out: Path) -> None:
    """Write a PNG of some lines of terminal output; the lines that begin with ``$`` are what was typed."""
    escaped = html.escape(re.sub(r"\x1b\[[0-9;]*m", "", text.rstrip("\n")))
    typed = re.sub(r"^(\$ .*)$", r"<b>\1</b>", escaped, flags=re.MULTILINE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 400}, device_scale_factor=1.5)
        page.set_content(_PAGE.format(text=typed))
        page.locator("body").screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    draw(sys.stdin.read(), Path(sys.argv[1]))
