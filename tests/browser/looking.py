"""What an eye sees on a page, measured: contrast, overlaps, a page wider than the screen."""

from __future__ import annotations

import re

from tests.browser.chromium import Tab

SIZES = {"phone": (390, 844), "small phone": (320, 640), "desktop": (1280, 800)}
LIVE = "document.body.dataset.link === 'live'"
PICTURE = f"{LIVE} && document.querySelector('#screen').dataset.state === 'live'"

_BOXES = """(() => {
  const boxes = [...document.querySelectorAll('.top, .alarm, .screen, .notice, .card')]
    .filter((box) => box.checkVisibility());
  const crosses = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const found = [];
  boxes.forEach((a, index) => boxes.slice(index + 1).forEach((b) => {
    if (crosses(a.getBoundingClientRect(), b.getBoundingClientRect())) found.push(`${a.className} | ${b.className}`);
  }));
  return found;
})()"""

_TEXTS = """(() => {
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest('.unseen, .skip, #nav, noscript') || !parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = parent.closest('.top, .alarm, .screen, .notice, .card').getBoundingClientRect();
    for (const rect of range.getClientRects()) if (rect.width > 0) texts.push({ text: node.data.trim(), rect, box });
  }
  const found = texts.filter(({ rect, box }) => rect.left < box.left || rect.right > box.right
    || rect.top < box.top - 1 || rect.bottom > box.bottom + 1).map(({ text }) => `${text} | its box`);
  // Lines of large words reach into each other's leading; letters that really cross share a third of their height.
  texts.forEach(({ text, rect: a }, index) => texts.slice(index + 1).forEach(({ text: other, rect: b }) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > Math.min(a.height, b.height) / 3) found.push(`${text} | ${other}`);
  }));
  return found;
})()"""


def contrast(tab: Tab, text: str, ground: str, *, of: str = "color") -> float:
    """WCAG contrast between one element's colour (or another property) and another's background."""
    colours = [
        tab.run(f"getComputedStyle(document.querySelector('{text}')).{of}"),
        tab.run(f"getComputedStyle(document.querySelector('{ground}')).backgroundColor"),
    ]

    def luminance(colour: str) -> float:
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(luminance(colour) for colour in colours)
    return (light + 0.05) / (dark + 0.05)


def sideways(tab: Tab) -> int:
    """CSS pixels by which the page is wider than the screen."""
    return int(tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def overlaps(tab: Tab) -> list[str]:
    """Boxes that cross each other, text that crosses other text, and text that leaves its box."""
    return [*tab.run(_BOXES), *tab.run(_TEXTS)]


def place(tab: Tab, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element on the page, in CSS pixels."""
    left, top, width, height = tab.run(
        f"(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();"
        " return [box.left, box.top + scrollY, box.width, box.height]; })()"
    )
    return left, top, width, height
