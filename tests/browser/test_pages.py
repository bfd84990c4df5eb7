"""Events, privacy and people as a person uses them, against the real app; on a phone and a desktop."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.web.source import PageTrial
from tests.browser.camera_site import CAMERA, CameraSite, busy
from tests.browser.playing import Open, agree, complaints, press, shot
from tests.fakes.camera_page import PASSWORD
from tests.fakes.waiting import wait_until

from playwright.sync_api import expect  # isort: skip  # skipped where it isn't installed

pytest_plugins = ["tests.browser.camera_pages"]
sizes = pytest.mark.parametrize("size", ["phone", "desktop"])


# Every page, for hands and eyes


@pytest.mark.parametrize("size", ["phone", "phone on its side", "small phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_fits_its_screen_and_a_thumb(
    open_as: Open, site: CameraSite, artefacts: Path, size: str, dark: bool
) -> None:
    site.a_week()
    busy(site.source)
    signs = {
        "/": "#health-heat:not([hidden])",
        "/events": ".event",
        "/models": ".version-row",
        "/privacy": ".night-row",
        "/people": ".person",
    }
    for path, sign in signs.items():
        page = open_as("Ada", path, size, dark=dark)
        page.locator(sign).first.wait_for()
        page.locator("#nav .nav-bar").wait_for()
        if path == "/privacy":
            page.locator("#nights summary").first.click()
        name = f"page-{path.strip('/') or 'live'}-{size.replace(' ', '-')}-{'dark' if dark else 'light'}"
        shot(page, artefacts, name)
        assert complaints(page) == [], path
        page.close()


def test_a_viewer_sees_everything_and_is_offered_nothing_that_changes_it(open_as: Open, site: CameraSite) -> None:
    site.a_week()
    page = open_as("Vic", "/events")
    expect(page.locator(".event")).to_have_count(6)
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    page.goto("/models")
    expect(page.locator(".version-row")).to_have_count(4)
    for name in ("Roll back", "Recover", "Try version 6 again"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.goto("/privacy")
    expect(page.locator(".night-row")).to_have_count(3)
    expect(page.get_by_role("button", name="Forget this camera…")).to_have_count(0)
    page.goto("/people")
    expect(page.locator("#own-words")).to_contain_text("You are Vic, viewer")
    expect(page.locator("#everybody")).to_be_hidden()


# Live


@sizes
def test_the_live_page_tells_of_machine_store_plan_and_queue(
    open_as: Open, site: CameraSite, artefacts: Path, size: str
) -> None:
    busy(site.source)
    page = open_as("Lin", "/", size)
    expect(page.locator("#health-heat dd")).to_have_text("61 °C")
    expect(page.locator("#health-power dd")).to_have_text("Good")
    expect(page.locator("#health-store dd")).to_have_text("Room left")
    expect(page.locator("#health-told dd")).to_have_text("MQTT")
    expect(page.locator("#tonight")).to_contain_text("It trains tonight")
    expect(page.locator("#asking-words")).to_have_text("12 frames wait, about 2 minutes")
    shot(page, artefacts, f"live-standing-{size}")

    store = dataclasses.replace(site.source.page.store, state="full", sentence="No room for new frames: label some.")  # type: ignore[type-var]
    site.source.page = dataclasses.replace(site.source.page, store=store, trial=PageTrial(8, "soak"))
    expect(page.locator("#health-store dd")).to_have_text("Full")
    expect(page.locator("#warnings")).to_have_text("No room for new frames: label some.")
    expect(page.locator("#trial-steps [aria-current]")).to_have_text("soak")
    press(page, "#asking-link", size)
    expect(page).to_have_url(re.compile("/label$"))


def test_the_queue_is_offered_to_nobody_who_may_not_label(open_as: Open, site: CameraSite) -> None:
    busy(site.source)
    page = open_as("Vic", "/")
    expect(page.locator("#tonight")).to_be_visible()
    expect(page.locator("#asking")).to_be_hidden()


@sizes
def test_an_alarm_is_acknowledged_right_where_it_is_told(
    open_as: Open, site: CameraSite, artefacts: Path, size: str
) -> None:
    event = site.seen(datetime.now(UTC) - timedelta(seconds=5), None)
    site.source.page = dataclasses.replace(site.source.page, alarm=event, events=(event,))
    page = open_as("Lin", "/", size)
    page.locator("#alarm[data-state=on]").wait_for()
    expect(page.locator("#acknowledge")).to_be_visible()
    shot(page, artefacts, f"live-alarm-{size}")
    press(page, "#acknowledge", size)
    wait_until(lambda: site.events.event(event.id).acknowledged_by == "Lin")
    noted = site.events.event(event.id)
    site.source.page = dataclasses.replace(site.source.page, alarm=noted, events=(noted,))
    expect(page.locator("#alarm-more")).to_contain_text("Acknowledged by Lin")
    expect(page.locator("#acknowledge")).to_be_hidden()
    press(page, "#alarm-event", size)
    expect(page.locator(".event.wanted")).to_have_id(event.id)


# Events


@sizes
def test_an_event_is_looked_at_acknowledged_and_another_marked_false(
    open_as: Open, site: CameraSite, artefacts: Path, size: str
) -> None:
    made = site.a_week()
    newest, other = made[-1], made[-2]
    page = open_as("Lin", "/events", size)
    expect(page.locator(".event")).to_have_count(6)
    expect(page.locator(".day h2").first).to_have_text(re.compile(r"Today|day \d"))

    press(page, f'[id="{newest.id}"] summary', size)
    strip = page.locator(f'[id="{newest.id}"] .trail-strip')
    expect(strip).to_have_attribute("aria-label", re.compile("^40 decisions by version 7: 33 said “Bare head”"))
    expect(strip.locator("rect")).to_have_count(40)
    page.locator(f'[id="{newest.id}"] .large').wait_for()
    shot(page, artefacts, f"event-trail-{size}")

    press(page, f'[id="{newest.id}"] .main-button', size)
    expect(page.locator(f'[id="{newest.id}"] .standing')).to_contain_text("Acknowledged by Lin")
    assert site.events.event(newest.id).acknowledged_by == "Lin"

    page.locator(f'[id="{other.id}"]').get_by_role("button", name=re.compile("^Mark as false")).click()
    assert "labelling queue as a hard example" in agree(page, "Mark as false")
    expect(page.locator(f'[id="{other.id}"] .standing')).to_contain_text("Marked false by Lin")
    expect(page.locator("#told")).to_contain_text("waits in the labelling queue")
    assert site.events.event(other.id).false
    assert len(site.hard_examples) == 1
    shot(page, artefacts, f"event-false-{size}")


def test_events_are_narrowed_by_kind_and_to_open_ones_and_empty_is_told_in_words(
    open_as: Open, site: CameraSite
) -> None:
    site.a_week()
    page = open_as("Lin", "/events")
    expect(page.locator(".event")).to_have_count(6)
    page.locator("#kind").select_option("seen")
    expect(page.locator(".event")).to_have_count(4)
    page.locator("#open").click()
    expect(page.locator(".event")).to_have_count(2)
    page.locator("#kind").select_option("frozen")
    expect(page.locator(".event")).to_have_count(0)
    expect(page.locator("#none")).to_contain_text("Nothing like that")


def test_more_events_than_a_page_holds_are_shown_piece_by_piece(open_as: Open, site: CameraSite) -> None:
    for number in reversed(range(27)):
        site.happened("slow", "Few pictures came.", timedelta(hours=1 + number))
    wait_until(lambda: site.events.unwritten == 0)
    page = open_as("Lin", "/events")
    expect(page.locator(".event")).to_have_count(20)
    page.locator("#more").click()
    expect(page.locator(".event")).to_have_count(27)
    expect(page.locator("#more")).to_be_hidden()


def test_an_event_is_found_by_its_address_wherever_it_is_in_the_list(open_as: Open, site: CameraSite) -> None:
    old = site.seen(datetime.now(UTC) - timedelta(days=2), 9)
    for number in reversed(range(25)):
        site.happened("slow", "Few pictures came.", timedelta(hours=1 + number))
    wait_until(lambda: site.events.unwritten == 0)
    page = open_as("Lin", f"/events#{old.id}")
    expect(page.locator("#asked .event.wanted")).to_have_id(old.id)
    page.locator("#asked .trail-strip").wait_for()
    assert page.evaluate("document.activeElement.id") == old.id


def test_a_new_event_comes_in_at_the_top_but_pushes_nobody_about_who_reads_below(
    open_as: Open, site: CameraSite
) -> None:
    for number in reversed(range(15)):
        site.happened("slow", "Few pictures came.", timedelta(hours=1 + number))
    page = open_as("Lin", "/events", "phone")
    expect(page.locator(".event")).to_have_count(15)
    page.evaluate("scrollTo(0, 900)")
    before = page.evaluate("document.querySelectorAll('.event')[5].getBoundingClientRect().top")
    site.happened("dark", "It is dark.", timedelta(minutes=30))
    page.locator("#newer").wait_for()
    after = page.evaluate("document.querySelectorAll('.event')[5].getBoundingClientRect().top")
    assert abs(after - before) <= 1
    page.locator("#newer").tap()
    expect(page.locator(".event")).to_have_count(16)
    expect(page.locator(".event h3").first).to_have_text("Dark picture")


# Privacy


@sizes
def test_privacy_says_first_and_then_shows_every_message(
    open_as: Open, site: CameraSite, artefacts: Path, size: str
) -> None:
    page = open_as("Vic", "/privacy", size)
    expect(page.locator("#sentences p").first).to_contain_text("Pictures and the features of single pictures do not.")
    expect(page.locator("#sentences")).to_contain_text("we do not claim that they reveal nothing")
    expect(page.locator("#totals")).to_contain_text("203 kB")
    expect(page.locator("#other")).to_contain_text("192.0.2.7")
    night = page.locator(".night-row").first
    expect(night).to_contain_text("learned from 208 frames · 67.5 kB out, 42.1 kB in · became version 7")
    press(page, "#nights summary", size)
    expect(night.locator("table").first).to_contain_text(re.compile("1280 . 3 float32"))
    sent = json.loads(site.paths.ledger.read_text().splitlines()[-6])["arrays"][0]["sha256"]
    assert sent in night.inner_html()
    shot(page, artefacts, f"privacy-{size}")

    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator("#nights details[open]")).to_have_count(3)
    expect(page.locator(".hash .whole").first).to_be_visible()
    expect(page.locator("#nav")).to_be_hidden()


@sizes
def test_a_camera_is_forgotten_only_by_its_name_and_leaves_a_proof(
    open_as: Open, site: CameraSite, artefacts: Path, size: str, tmp_path: Path
) -> None:
    page = open_as("Ada", "/privacy", size)
    press(page, "#forget", size)
    yes = page.locator("dialog button[type=submit]")
    expect(yes).to_be_disabled()
    page.locator("dialog input").fill("South gate")
    expect(yes).to_be_disabled()
    shot(page, artefacts, f"forget-question-{size}")
    page.keyboard.press("Enter")
    assert site.paths.ledger.exists()

    page.locator("dialog input").fill(CAMERA)
    yes.click()
    expect(page.locator("#proof-title")).to_be_visible()
    expect(page.locator("#proof-facts")).to_contain_text("Ada")
    shot(page, artefacts, f"forget-proof-{size}")
    with page.expect_download() as waiting:
        page.locator("#proof-save").click()
    saved = tmp_path / "proof.json"
    waiting.value.save_as(saved)
    assert waiting.value.suggested_filename == "north-gate-forgotten.json"
    assert json.loads(saved.read_text())["versions"] == [1, 5, 6, 7]
    assert not site.paths.ledger.exists()
    assert not (site.paths.root / "models").exists()


# People


@sizes
def test_somebody_is_invited_comes_in_by_the_code_and_is_removed(
    open_as: Open, site: CameraSite, artefacts: Path, size: str
) -> None:
    page = open_as("Ada", "/people", size)
    expect(page.locator(".person")).to_have_count(3)
    expect(page.locator(".person").first).to_contain_text("The only admin")
    page.locator("input[value=viewer]").check()
    press(page, "#invite", size)
    expect(page.locator("#invited-title")).to_have_text("A code for one viewer")
    code = page.locator("#code").inner_text()
    link = page.locator("#invite-link").inner_text()
    assert link == f"{site.url}/login#code={code}"
    shot(page, artefacts, f"people-invited-{size}")

    guest = open_as(None, link.removeprefix(site.url), size)
    guest.locator("#new-name").fill("Kim")
    guest.locator("#new-password").fill(PASSWORD)
    guest.locator("#again").fill(PASSWORD)
    press(guest, "#make", size)
    expect(guest.locator("#camera")).to_have_text(CAMERA)

    page.reload(wait_until="domcontentloaded")
    expect(page.locator(".person")).to_have_count(4)
    page.get_by_label("Role of Kim").select_option("admin")
    assert "Kim then may do everything" in agree(page, "Change the role")
    expect(page.locator("#told")).to_have_text(re.compile("Kim is admin now"))
    page.get_by_role("button", name="Remove Kim").click()
    assert "logged out at once" in agree(page, "Remove")
    expect(page.locator(".person")).to_have_count(3)
    guest.goto("/events", wait_until="domcontentloaded")
    expect(guest).to_have_url(re.compile("/login"))


def test_a_new_password_is_asked_twice_and_counts_from_then_on(open_as: Open, site: CameraSite) -> None:
    page = open_as("Lin", "/people")
    page.locator("#old").fill("not my password")
    page.locator("#new").fill("a quite different one")
    page.locator("#again").fill("a quite different ome")
    page.locator("#change").click()
    expect(page.locator("#again-problem")).to_have_text("The two new passwords are not the same.")
    page.locator("#again").fill("a quite different one")
    page.locator("#change").click()
    expect(page.locator("#told [role=alert]")).to_be_visible()
    page.locator("#old").fill(PASSWORD)
    page.locator("#change").click()
    expect(page.locator("#told")).to_contain_text("Your password was changed")
    assert site.accounts.log_in("Lin", "a quite different one")
