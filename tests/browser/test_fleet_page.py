"""The fleet page as a person uses it: login, cameras, nights, letting in, putting out; on a phone and a desktop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, Tab
from tests.browser.looking import contrast, sideways
from tests.fakes.fleet_page import FELL, PASSWORD, FakeGatekeeper, FleetPage, History, served, settings_in, thousand

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
SECTIONS = ("cameras", "nights", "models", "join", "trail", "export")
LIVE = "location.pathname === '/' && document.body?.dataset.link === 'live'"
OpenFleet = Callable[..., Tab]

views = pytest.mark.parametrize(
    ("size", "dark"), [(size, dark) for size in SIZES for dark in (False, True)], ids=lambda value: str(value)
)


@pytest.fixture(scope="module")
def a_month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("month") / "server"
    settings_in(made)
    History(made).month()
    return made


@pytest.fixture
def root(tmp_path: Path, a_month: Path) -> Path:
    return Path(shutil.copytree(a_month, tmp_path / "server"))


@pytest.fixture
def gatekeeper(root: Path) -> FakeGatekeeper:
    return FakeGatekeeper(root)


@pytest.fixture
def page(root: Path, gatekeeper: FakeGatekeeper) -> Iterator[FleetPage]:
    with served(root, gatekeeper) as running:
        yield running


@pytest.fixture
def open_door(browser: Chromium) -> Iterator[OpenFleet]:
    """Opens a page's door: ``open_door(page, "phone", dark=True)``."""
    opened: list[Tab] = []

    def open_at(page: FleetPage, size: str = "phone", *, dark: bool = False) -> Tab:
        width, height = SIZES[size]
        tab = browser.open(width=width, height=height, dark=dark, phone=size == "phone")
        opened.append(tab)
        tab.session.call("Security.enable")
        tab.session.call("Security.setIgnoreCertificateErrors", ignore=True)  # the fleet's own authority
        tab.session.call("Network.clearBrowserCookies")
        tab.go(f"{page.url}/")
        tab.wait_for("document.readyState === 'complete' && location.pathname === '/login'")
        return tab

    yield open_at
    for tab in opened:
        tab.close()


@pytest.fixture
def open_fleet(open_door: OpenFleet) -> OpenFleet:
    """The same, and logs in."""

    def open_at(page: FleetPage, size: str = "phone", *, dark: bool = False) -> Tab:
        tab = open_door(page, size, dark=dark)
        enter(tab, PASSWORD)
        tab.wait_for(LIVE)
        return tab

    return open_at


def enter(tab: Tab, password: str) -> None:
    tab.run(f"document.querySelector('#password').value = {json.dumps(password)}")
    tab.run("document.querySelector('#enter').click()")


def to(tab: Tab, section: str) -> None:
    tab.run(f"location.hash = '#{section}'")
    name = "night" if "/" in section else section
    tab.wait_for(f"!document.querySelector('#section-{name}').hidden")


def click(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector({json.dumps(selector)}).click()")


def has(selector: str, words: str) -> str:
    return f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(words)})"


@views
def test_every_section_looks_right(
    page: FleetPage, gatekeeper: FakeGatekeeper, open_fleet: OpenFleet, artefacts: Path, size: str, dark: bool
) -> None:
    gatekeeper.ask("loading bay")
    tab = open_fleet(page, size, dark=dark)
    for section in (*SECTIONS, "nights/40"):
        to(tab, section)
        tab.wait_for("document.querySelector('main section:not([hidden])').innerText.length > 60")
        name = section.replace("/", "-")
        tab.screenshot(artefacts / f"fleet-{name}-{size}-{'dark' if dark else 'light'}.png", whole=True)
        assert sideways(tab) == 0, section
    to(tab, "cameras")
    assert contrast(tab, ".camera h3", ".camera") >= 7
    assert contrast(tab, ".camera dd", ".camera") >= 7
    assert contrast(tab, ".camera[data-tone=alert] .camera-head p", ".camera") >= 7
    to(tab, "nights")
    tab.wait_for("document.querySelector('.plot svg circle') !== null")
    assert contrast(tab, ".plot text", ".plot", of="fill") >= 4.5
    assert tab.complaints() == []
    assert all(address.startswith(page.url) for address in tab.addresses())


def test_a_wrong_password_is_told_and_the_right_one_opens(page: FleetPage, open_door: OpenFleet) -> None:
    tab = open_door(page)
    enter(tab, "not the password")
    tab.wait_for(has("#problem", "That is not the password"))
    enter(tab, PASSWORD)
    tab.wait_for(LIVE)
    assert tab.run("document.cookie") == "", "no script can read the session"
    click(tab, "#leave")
    tab.wait_for("location.pathname === '/login'")


def test_a_session_that_ends_leads_to_the_login(page: FleetPage, open_fleet: OpenFleet) -> None:
    tab = open_fleet(page)
    tab.session.call("Network.clearBrowserCookies")
    tab.wait_for("location.pathname === '/login'")


def test_cameras_say_how_they_are(page: FleetPage, open_fleet: OpenFleet) -> None:
    tab = open_fleet(page)
    tab.wait_for("document.querySelectorAll('.camera').length === 6")
    text = tab.text("#cameras-list")
    assert f"Did not take version 35: {FELL}." in text
    assert "The lens is covered or it is dark." in text
    assert "35, the newest" in text
    assert "34, not 35" in text
    assert "hardhat\u00a061" in text
    assert "3 of 6 need a look" in tab.text("#cameras-lead")


def test_a_camera_on_hold_trains_again_after_a_persons_word(page: FleetPage, open_fleet: OpenFleet) -> None:
    tab = open_fleet(page)
    tab.wait_for(has("#cameras-list", "On hold: it sent updates"))
    click(tab, "[data-camera=yard] .release")
    tab.wait_for("!" + has("#cameras-list", "On hold"))
    assert tab.text("#spoken") == "yard may train again."


def test_revoking_asks_first_and_says_what_it_means(page: FleetPage, open_fleet: OpenFleet, artefacts: Path) -> None:
    tab = open_fleet(page)
    tab.wait_for("document.querySelector('[data-camera=\"gate-1\"]') !== null")
    click(tab, '[data-camera="gate-1"] .revoke')
    tab.wait_for("document.querySelector('#question').open")
    assert "Revoke gate-1?" in tab.text("#question")
    assert "its next message is refused" in tab.text("#question")
    tab.screenshot(artefacts / "fleet-revoke-phone-light.png")
    click(tab, "#question button[value=no]")
    tab.wait_for("!document.querySelector('#question').open")
    assert "gate-1" in tab.text("#cameras-list")
    click(tab, '[data-camera="gate-1"] .revoke')
    tab.run("document.querySelector('#question-field').value = 'it was stolen'")
    click(tab, "#question-yes")
    tab.wait_for("!" + has("#cameras-list", "gate-1"))
    assert "Revoked (1)" in tab.text("#revoked")
    to(tab, "trail")
    tab.wait_for(has("#trail-list", "gate-1 was revoked: it was stolen"))


def test_a_camera_is_let_in_with_a_code_and_a_persons_word(
    page: FleetPage, gatekeeper: FakeGatekeeper, open_fleet: OpenFleet
) -> None:
    tab = open_fleet(page)
    to(tab, "join")
    click(tab, "#join-new")
    tab.wait_for(has("#code-text", "K7QF-2M9X-4PTR"))
    typed = tab.text(".code .command").replace("\n", " ")
    assert "sitecam enrol K7QF-2M9X-4PTR --server https://192.0.2.1:9443" in typed
    assert tab.run("document.querySelector('#code-qr svg path') !== null")
    assert "Counts for another 1" in tab.text("#code-left")
    gatekeeper.ask("loading bay")
    tab.wait_for("document.querySelector('.request') !== null")
    gatekeeper.codes.clear()  # it was good for one camera
    assert tab.text("#asking") == "1"
    assert "9F2C 41D0 7BE8 5A33" in tab.text(".request")
    assert "192.0.2.17" in tab.text(".request")
    click(tab, ".request .approve")
    tab.wait_for("document.querySelector('.request') === null")
    tab.wait_for(has("#code-left", "A camera has used this code"))
    to(tab, "cameras")
    tab.wait_for(has("#cameras-list", "loading bay"))


def test_a_camera_that_nobody_knows_is_refused_with_a_reason(
    page: FleetPage, gatekeeper: FakeGatekeeper, open_fleet: OpenFleet
) -> None:
    gatekeeper.ask("stranger")
    tab = open_fleet(page)
    to(tab, "join")
    tab.wait_for("document.querySelector('.request .refuse') !== null")
    click(tab, ".request .refuse")
    tab.run("document.querySelector('#question-field').value = 'not ours'")
    click(tab, "#question-yes")
    tab.wait_for("document.querySelector('.request') === null")
    assert gatekeeper.said == [("page", "refuse", "not ours")]


def test_a_nights_detail_tells_rounds_gate_who_was_left_out_and_the_verdicts(
    page: FleetPage, open_fleet: OpenFleet
) -> None:
    tab = open_fleet(page)
    to(tab, "nights")
    tab.wait_for("document.querySelectorAll('.night-row').length === 30")
    click(tab, ".night-row a")
    tab.wait_for("document.querySelector('#night-body .says') !== null")
    text = tab.text("#night-body")
    assert f"accepted on 4; kept the old model on gate-2: {FELL}" in text
    assert "it did not answer within 900 s" in text
    assert "could not be used" in text
    assert "77/80" in text
    assert tab.run("document.querySelectorAll('#night-body table caption').length") >= 3


def test_a_plot_is_told_in_words_and_as_a_table(page: FleetPage, open_fleet: OpenFleet) -> None:
    tab = open_fleet(page)
    to(tab, "nights")
    tab.wait_for("document.querySelector('.plot svg') !== null")
    label = tab.run("document.querySelector('.plot svg').getAttribute('aria-label')")
    assert label.startswith("Accuracy on the server")
    assert "%, 2026-" in label
    click(tab, ".plot summary")
    tab.wait_for("document.querySelectorAll('.plot tbody tr').length === 40")
    assert "Too few cameras" in tab.text(".plot table")


def test_a_server_that_goes_away_is_told_and_the_last_state_stays(
    page: FleetPage, open_fleet: OpenFleet, artefacts: Path
) -> None:
    tab = open_fleet(page)
    tab.wait_for(has("#cameras-list", "gate-1"))
    page.stop()
    tab.wait_for("document.body.dataset.link === 'lost'")
    assert "The server does not answer. This is how things stood at" in tab.text(".notices")
    assert "gate-1" in tab.text("#cameras-list")
    tab.screenshot(artefacts / "fleet-lost-phone-light.png")
    page.start()
    tab.wait_for("document.body.dataset.link === 'live' || location.pathname === '/login'")


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path, open_fleet: OpenFleet) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    root = tmp_path / "other"
    settings_in(root)
    history = History(root, (nasty, "gate-2"))
    history.enrol()
    history.night(1)
    history.roster.hold(nasty, f"because {nasty}")
    gatekeeper = FakeGatekeeper(root)
    gatekeeper.ask(nasty)
    with served(root, gatekeeper) as page:
        tab = open_fleet(page)
        tab.wait_for(has("#cameras-list", nasty))
        for section in ("join", "nights/1", "models", "trail"):
            to(tab, section)
            tab.wait_for("document.querySelector('main section:not([hidden])').innerText.length > 60")
        to(tab, "join")
        tab.wait_for(has(".request", nasty))
        assert tab.run("document.querySelectorAll('main img').length") == 0
        assert sideways(tab) == 0
        assert tab.complaints() == []


def test_a_thousand_cameras_are_found_by_name(tmp_path: Path, open_fleet: OpenFleet, artefacts: Path) -> None:
    root = tmp_path / "many"
    settings_in(root)
    thousand(root)
    with served(root) as page:
        tab = open_fleet(page)
        tab.wait_for("document.querySelectorAll('.camera').length === 50")
        assert "Show 100 more of 1,000" in tab.text("#cameras-more")
        click(tab, "#cameras-more")
        assert tab.run("document.querySelectorAll('.camera').length") == 150
        tab.run("document.querySelector('#cameras-find').value = 'cam-0907'")
        tab.run("document.querySelector('#cameras-find').dispatchEvent(new Event('input'))")
        assert tab.run("document.querySelectorAll('.camera').length") == 1
        assert FELL in tab.text("#cameras-list")
        tab.run("document.querySelector('#cameras-find').value = 'nobody has this'")
        tab.run("document.querySelector('#cameras-find').dispatchEvent(new Event('input'))")
        assert "has “nobody has this” in it" in tab.text("#cameras-none")
        tab.screenshot(artefacts / "fleet-thousand-phone-light.png")


def test_an_empty_fleet_says_what_to_do(tmp_path: Path, open_fleet: OpenFleet) -> None:
    root = tmp_path / "empty"
    settings_in(root)
    with served(root) as page:
        tab = open_fleet(page)
        tab.wait_for(has("#cameras-none", "No camera belongs to this fleet yet"))
        to(tab, "nights")
        tab.wait_for(has("#nights-none", "No night has been held yet"))
        to(tab, "models")
        tab.wait_for(has("#models-none", "No night has made a version yet"))


def test_what_a_finger_touches_is_large_enough_and_has_a_name(
    page: FleetPage, gatekeeper: FakeGatekeeper, open_fleet: OpenFleet
) -> None:
    gatekeeper.ask("loading bay")
    tab = open_fleet(page)
    small = """[...document.querySelectorAll('a, button, input, summary')].filter((each) => each.checkVisibility()
        && !each.matches('.skip')).map((each) => [each.innerText || each.id, each.getBoundingClientRect().height])
        .filter(([, height]) => height < 43.5)"""
    nameless = """[...document.querySelectorAll('button, a')].filter((each) => each.checkVisibility()
        && !(each.innerText.trim() || each.ariaLabel)).length"""
    for section in (*SECTIONS, "nights/40"):
        to(tab, section)
        tab.wait_for("document.querySelector('main section:not([hidden])').innerText.length > 60")
        assert tab.run(small) == [], section
        assert tab.run(nameless) == 0


def test_the_keyboard_reaches_the_sections_and_the_title_gets_the_focus(page: FleetPage, open_fleet: OpenFleet) -> None:
    tab = open_fleet(page, "desktop")
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "skip"
    tab.press("Tab")
    tab.press("Tab")
    assert tab.run("document.activeElement.innerText") == "Nights"
    tab.press("Enter")
    tab.wait_for("document.activeElement.id === 'nights-title'")
    assert tab.run("document.querySelector('.tabs [aria-current]').innerText") == "Nights"
