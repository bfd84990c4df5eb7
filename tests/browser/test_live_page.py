"""The live page as a person sees it, in a real browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.frame import Doubt
from appliance.night_status import NightStatus
from appliance.web.server import PageServer
from appliance.web.source import PageVerdict
from tests.browser.chromium import Chromium, Tab, wait_until
from tests.browser.looking import LIVE, PICTURE, SIZES, contrast, overlaps, sideways
from tests.fakes.camera_page import let_in_app
from tests.fakes.page_source import FakePageSource, decision


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_the_page_shows_the_decision_the_version_and_the_night(
    browser: Chromium, server: PageServer, artefacts: Path, size: str, dark: bool
) -> None:
    width, height = SIZES[size]
    tab = browser.open(width=width, height=height, dark=dark, phone=size == "phone")
    tab.go(server.url)
    tab.wait_for(PICTURE)
    name = f"live-{size}-{'dark' if dark else 'light'}"
    tab.screenshot(artefacts / f"{name}.png")
    tab.screenshot(artefacts / f"{name}-whole.png", whole=True)

    assert tab.text("#words") == "Hardhat"
    assert "97 % sure" in tab.text("#decision")
    assert "Version 7" in tab.text(".version")
    assert "Training, round 2 of 3" in tab.text(".night")
    assert tab.text(".steps [aria-current]") == "Train"
    assert "208 labelled frames take part" in tab.text(".night")
    assert "Version 7 was taken: 109 of 111 own test frames right" in tab.text("#last")
    assert tab.text("#camera") == "North gate"
    assert "9.8" in tab.text(".health")
    assert sideways(tab) == 0
    assert overlaps(tab) == []
    assert contrast(tab, "#words", ".verdict") >= 7
    assert contrast(tab, "#version", ".model") >= 7
    assert contrast(tab, "#night-message", ".night") >= 7
    assert tab.run("document.querySelector('#picture').naturalWidth") == 960
    bottom = tab.run("document.querySelector('.verdict').getBoundingClientRect().bottom")
    bar = tab.run("document.querySelector('#nav').getBoundingClientRect().top")
    assert bottom <= (bar if size == "phone" else height), "the decision must be seen without scrolling"
    assert tab.complaints() == []
    assert all(address.startswith(server.url) for address in tab.addresses())
    assert f"{server.url}static/page.css" in tab.addresses()
    tab.close()


@pytest.mark.parametrize(
    ("label", "confidence", "doubt", "words", "beside"),
    [
        ("head", 0.91, Doubt.NONE, "Bare head", "91 % sure"),
        ("nobody", 0.88, Doubt.NONE, "Nobody", "88 % sure"),
        (None, 0.52, Doubt.LOW_SCORE, "Unsure", "The best score is low"),
        (None, 0.97, Doubt.UNFAMILIAR, "Unsure", "Unlike anything this camera was taught"),
    ],
)
def test_every_decision_has_its_own_words_icon_reason_and_strong_contrast(
    tab: Tab, source: FakePageSource, label: str | None, confidence: float, doubt: Doubt, words: str, beside: str
) -> None:
    icon = "document.querySelector('#decision-icon').getAttribute('href')"
    before = tab.run(icon)
    source.decision = decision(label, confidence, doubt=doubt)
    tab.wait_for(f"document.querySelector('#words').textContent === '{words}'")
    assert tab.text("#sure") == beside
    assert tab.run(icon) != before
    assert contrast(tab, "#words", ".verdict") >= 7
    assert contrast(tab, "#sure", ".verdict") >= 7


def test_without_a_model_it_says_so_and_still_shows_the_picture(tab: Tab, source: FakePageSource) -> None:
    source.decision = None
    source.page = replace(source.page, model_version=None, model_since_utc=None)
    tab.wait_for("document.querySelector('#words').textContent === 'No answer'")
    tab.wait_for(PICTURE)
    assert tab.text("#sure") == "The model is starting"
    assert tab.text("#version") == "None runs"


def test_a_new_version_shows_up_by_itself(tab: Tab, source: FakePageSource) -> None:
    now = source.page.model_since_utc
    assert now is not None
    refused = PageVerdict(9, False, "It was 3.1 % worse on this camera's own test frames", now, "judge", True)
    source.page = replace(source.page, model_version=8, last_verdict=refused)
    tab.wait_for("document.querySelector('#version').textContent === 'Version 8'")
    assert "New" in tab.text(".version")
    assert "Version 9 was not taken, at judge: It was 3.1 % worse" in tab.text("#last")


def test_faults_are_told_in_full(tab: Tab, source: FakePageSource, artefacts: Path) -> None:
    source.page = replace(
        source.page,
        camera_fault="Pi camera 0 sent no picture within 5 s. Check the ribbon cable.",
        model_fault="Version 7 gave no answer.",
        night=NightStatus("failed", "2026-11-22", 1, 3, "The server went away"),
    )
    tab.wait_for("!document.querySelector('#notice-camera').hidden")
    tab.screenshot(artefacts / "faults-phone-light.png", whole=True)
    assert "Check the ribbon cable" in tab.text(".notices")
    assert "Version 7 gave no answer" in tab.text(".notices")
    assert "Fault" in tab.text("#health-camera")
    assert "Ended early" in tab.text(".night")
    assert "The server went away" in tab.text(".night")
    assert sideways(tab) == 0


def test_an_old_picture_is_called_old_and_its_decision_is_withdrawn(tab: Tab, source: FakePageSource) -> None:
    tab.wait_for(PICTURE)
    source.flowing.clear()
    tab.wait_for("document.querySelector('#screen').dataset.state === 'old'")
    assert re.search(r"\d+ s old", tab.text("#blank-words"))
    assert tab.text("#words") == "No picture"
    assert tab.text("#sure").startswith("Since ")
    assert "97" not in tab.text("#scores")
    assert tab.run("document.querySelector('#decision').dataset.tone") == "calm"


def test_names_from_outside_are_shown_as_they_are_and_never_run(
    browser: Chromium, server: PageServer, source: FakePageSource
) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    source.decision = None
    source.page = replace(source.page, camera=nasty + "x" * 60, labels=(nasty, "forklift"))
    tab = browser.open(width=320, height=640, phone=True)
    tab.go(server.url)
    tab.wait_for(LIVE)
    assert tab.text("#camera").startswith(nasty)
    assert nasty in tab.text("#scores")
    assert "forklift" in tab.text("#scores")
    assert sideways(tab) == 0
    assert tab.complaints() == []
    tab.close()


def test_a_lost_connection_is_told_and_heals(
    tab: Tab, server: PageServer, source: FakePageSource, tmp_path: Path, artefacts: Path
) -> None:
    tab.wait_for(PICTURE)
    server.stop()
    tab.wait_for("document.body.dataset.link === 'lost'")
    assert "Connection lost" in tab.text(".notices")
    assert "As of" in tab.text("#sure")
    tab.screenshot(artefacts / "lost-phone-light.png")
    app = let_in_app(source, tmp_path / "camera")
    again = PageServer(app, "127.0.0.1", server.port)
    again.start()
    try:
        tab.wait_for(PICTURE)
        wait_until(lambda: app.state.pictures.viewers == 1, what="the picture to come back")
        assert "Connection lost" not in tab.text(".notices")
        assert tab.text("#sure") == "97 % sure"
    finally:
        again.stop()


def test_the_keyboard_reaches_pause_which_stops_the_stream_and_keeps_the_picture(tab: Tab, server: PageServer) -> None:
    tab.wait_for(PICTURE)
    pictures = server._app.state.pictures
    tab.press("Tab")
    assert tab.run("document.activeElement.className") == "skip"
    for _ in range(len(tab.run("[...document.querySelectorAll('#nav :is(a, button)')].map((each) => each.id)")) + 1):
        if tab.run("document.activeElement.id") != "pause":
            tab.press("Tab")
    assert tab.run("document.activeElement.id") == "pause"
    tab.press("Enter")
    wait_until(lambda: pictures.viewers == 0, what="the stream to stop")
    assert tab.run("document.querySelector('#still').width") == 960
    assert tab.run("document.querySelector('#pause').getAttribute('aria-pressed')") == "true"
    tab.press("Enter")
    wait_until(lambda: pictures.viewers == 1, what="the stream to start")
    tab.wait_for(PICTURE)


def test_a_page_that_is_left_stops_its_stream(browser: Chromium, server: PageServer) -> None:
    left = browser.open(width=390, height=844)
    left.go(server.url)
    left.wait_for(PICTURE)
    pictures = server._app.state.pictures
    assert pictures.viewers == 1
    left.close()
    wait_until(lambda: pictures.viewers == 0, what="the viewer to be forgotten")


def test_a_screen_reader_hears_changes_but_not_a_flicker(tab: Tab, source: FakePageSource) -> None:
    tab.wait_for("document.querySelector('#spoken').textContent.startsWith('Hardhat')")
    tab.run(
        "window.told = 0; new MutationObserver(() => { window.told += 1; })"
        ".observe(document.querySelector('#spoken'), {childList: true, characterData: true, subtree: true})"
    )
    for label in ("head", "nobody", "head"):
        source.decision = decision(label, 0.9)
        words = {"head": "Bare head", "nobody": "Nobody"}[label]
        tab.wait_for(f"document.querySelector('#words').textContent === '{words}'")
    tab.wait_for("document.querySelector('#spoken').textContent.startsWith('Bare head')")
    assert tab.run("window.told") <= 2


def test_landmarks_headings_and_names_are_there_for_a_screen_reader(tab: Tab) -> None:
    tab.wait_for(PICTURE)
    nodes = tab.session.call("Accessibility.getFullAXTree")["nodes"]
    found = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node}
    roles = {role for role, _ in found}
    assert {"banner", "main", "alert", "status"} <= roles
    assert ("button", "Pause the picture") in found
    assert ("heading", "North gate") in found
    assert ("heading", "Hardhat") in found
    assert ("image", "Live picture of the site") in found
    regions = ("Alarm", "Picture", "Hardhat", "Model", "Night", "Health", "Events")
    assert {("region", name) for name in regions} <= found
