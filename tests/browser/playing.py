"""Playwright: a browser with phones and desktops in it, and what an eye measures on a page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright for Python isn't installed")

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.label_site import LabelSite

Open = Callable[..., Page]  # opens a page as a person: name, path, size
SIZES = {"phone": (390, 844), "phone on its side": (844, 390), "small phone": (320, 640), "desktop": (1280, 800)}

#: Everything that a hand should hit and that is smaller than 44 x 44 CSS pixels; links within a sentence are exempt.
_SMALL = """(() => [...document.querySelectorAll('a, button, select, input, summary')]
  .filter((each) => each.checkVisibility() && !each.closest('.skip, .unseen, p a, .check') && !each.matches('.skip'))
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([, box]) => box.width > 0 && (box.width < 43.5 || box.height < 43.5))
  .map(([each, box]) => `${each.id || each.textContent.trim()} is ${box.width} x ${box.height}`))()"""

#: Controls without a name, pictures without a text, ids that are there twice.
_UNNAMED = """(() => {
  const found = [];
  for (const each of document.querySelectorAll('a, button, select, input, img, [role=img]')) {
    if (!each.checkVisibility()) continue;
    const named = each.getAttribute('aria-label') || each.getAttribute('alt') !== null && each.matches('img')
      || each.textContent.trim() || each.labels?.length || each.closest('label');
    if (!named) found.push(`${each.tagName} ${each.id || each.className} has no name`);
  }
  const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) found.push(`id ${id} twice`);
  return found;
})()"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; skips the test where it is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium isn't installed (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        expect.set_options(timeout=15_000)  # a page beside three other tests takes its time
        try:
            yield browser
        finally:
            browser.close()


def context_of(browser: Browser, site: LabelSite, name: str | None, size: str, *, dark: bool = False) -> BrowserContext:
    """A device of that size in the hand of somebody who is logged in; of nobody where ``name`` is None."""
    width, height = SIZES[size]
    phone = size != "desktop"
    context = browser.new_context(
        base_url=site.url,
        viewport={"width": width, "height": height},
        is_mobile=phone,
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(15_000)
    if name is not None:
        context.add_cookies([site.cookie(name)])  # type: ignore[list-item]  # a plain dict of what it wants
    return context


def complaints(page: Page) -> list[str]:
    """What is wrong with a page for hands, eyes and screen readers; empty where it is well."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found = [f"{wide} px wider than the screen"] if wide else []
    return [*found, *page.evaluate(_SMALL), *page.evaluate(_UNNAMED)]


def shot(page: Page, folder: Path, name: str) -> None:
    """A picture of the page, for an eye."""
    page.screenshot(path=str(folder / f"{name}.png"))


def press(page: Page, selector: str, size: str) -> None:
    """A tap on a phone, a click elsewhere."""
    place = page.locator(selector).first
    if size == "desktop":
        place.click()
    else:
        place.tap()


def agree(page: Page, words: str) -> str:
    """Say yes to the question on the page; what it said."""
    asked = page.locator("dialog").inner_text()
    page.locator("dialog").get_by_role("button", name=words, exact=True).click()
    return asked
