"""The data page as a person uses it: how the data stands, frames in and out, and gone for good."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.learn_empty import read_request
from tests.browser.label_site import ZONE, LabelSite
from tests.browser.playing import SIZES, chromium, complaints, context_of, shot
from tests.fakes.pictures import encoded, scene, write

from playwright.sync_api import Browser, Page, expect  # isort: skip  # skipped where it isn't installed

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LabelSite]:
    running = LabelSite(tmp_path, waiting=4)
    for seed in range(50, 56):
        running.keep(seed, label=("head", "hardhat", "nobody")[seed % 3])
    running.start()
    yield running
    running.stop()


@pytest.fixture
def open_as(chrome: Browser, site: LabelSite) -> Iterator[Open]:
    """``open_as("Ada", "add", "phone")``: a part of the page that has no error of its own in the end."""
    contexts, errors = [], []

    def opened(name: str = "Ada", part: str = "health", size: str = "desktop") -> Page:
        context = context_of(chrome, site, name, size)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"/data#{part}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def test_how_the_data_stands_is_said_in_words_and_numbers(open_as: Open, artefacts: Path) -> None:
    page = open_as()
    expect(page.locator("#counts-words")).to_contain_text("6 in all; 4 wait for a label")
    expect(page.locator("#counts tr")).to_have_count(3)
    expect(page.locator(".finding").first).to_be_visible()
    expect(page.locator("#store-words")).not_to_be_empty()
    expect(page.locator("#queue-words")).to_contain_text("4 frames")
    shot(page, artefacts, "data-health-desktop")


@pytest.mark.parametrize("part", ["health", "frames", "add", "delete"])
def test_every_part_fits_every_screen(open_as: Open, artefacts: Path, part: str) -> None:
    page = open_as(part=part, size="phone")
    expect(page.locator(f"#part-{part}")).to_be_visible()
    page.wait_for_load_state("networkidle")
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        assert complaints(page) == []
        shot(page, artefacts, f"data-{part}-{size.replace(' ', '-')}")


def test_frames_are_found_by_state_and_label_and_one_is_looked_at(open_as: Open, artefacts: Path) -> None:
    page = open_as(part="frames", size="phone")
    expect(page.locator(".thumb")).to_have_count(10)
    page.locator("#by-state").select_option("waiting")
    expect(page.locator(".thumb")).to_have_count(4)
    page.locator("#by-state").select_option("labelled")
    page.locator("#by-label").select_option("head")
    expect(page.locator(".thumb")).to_have_count(2)
    page.locator(".thumb").first.tap()
    expect(page.locator("dialog.viewer")).to_contain_text("Bo")
    shot(page, artefacts, "data-frame-phone")
    page.keyboard.press("Escape")
    expect(page.locator("dialog.viewer")).to_have_count(0)


def test_older_frames_come_when_they_are_asked_for(site: LabelSite, open_as: Open) -> None:
    for seed in range(200, 245):
        site.keep(seed)
    page = open_as(part="frames")
    expect(page.locator(".thumb")).to_have_count(48)
    page.locator("#older").click()
    expect(page.locator(".thumb")).to_have_count(55)
    expect(page.locator("#older")).to_be_hidden()


def test_a_wrong_label_is_mended_where_it_is_found(site: LabelSite, open_as: Open) -> None:
    page = open_as("Lin", "frames")
    page.locator("#by-label").select_option("head")
    page.locator(".thumb").first.click()
    page.locator("dialog.viewer").get_by_role("button", name="Hardhat").click()
    expect(page.locator("dialog.viewer")).to_have_count(0)
    expect(page.locator("#spoken")).to_have_text("Hardhat. Saved.")
    assert [frame.label for frame in site.said()] == ["hardhat"]


def test_a_frame_is_deleted_for_good_after_a_question(site: LabelSite, open_as: Open) -> None:
    page = open_as("Lin", "frames")
    expect(page.locator(".thumb")).to_have_count(10)
    wanted = page.locator("#grid li").first.get_attribute("data-id")
    page.locator(".thumb").first.click()
    dialog = page.locator("dialog.viewer")
    dialog.get_by_role("button", name="Delete this frame").click()
    dialog.get_by_role("button", name="Keep it").click()
    assert len(site.store.frames(labelled_only=False)) == 10
    dialog.get_by_role("button", name="Delete this frame").click()
    dialog.get_by_role("button", name="Delete for ever").click()
    expect(page.locator(".thumb")).to_have_count(9)
    expect(page.locator("#spoken")).to_contain_text("deleted for good")
    assert wanted not in [frame.id for frame in site.store.frames(labelled_only=False)]
    assert page.request.get(f"/api/frames/{wanted}/picture").status == 404


def test_a_span_of_time_is_shown_before_it_goes(site: LabelSite, open_as: Open, artefacts: Path) -> None:
    page = open_as(part="delete", size="phone")
    begin, end = (site.now - timedelta(hours=hours, minutes=30) for hours in (2, 0))  # frames 1 and 2 hours old
    page.locator("#begin").fill(begin.astimezone(ZONE).strftime("%Y-%m-%dT%H:%M"))
    page.locator("#finish").fill(end.astimezone(ZONE).strftime("%Y-%m-%dT%H:%M"))
    show = page.get_by_role("button", name="Show what would go")
    show.tap()
    expect(page.locator("#sure-words")).to_contain_text("2 frames would be deleted for good")
    shot(page, artefacts, "data-sure-phone")
    page.get_by_role("button", name="Keep it").tap()
    expect(page.locator("#range-words")).to_have_text("Nothing was deleted.")
    assert len(site.store.frames(labelled_only=False)) == 10
    show.tap()
    page.get_by_role("button", name="Delete 2 frames for ever").tap()
    expect(page.locator("#range-words")).to_contain_text("2 frames are deleted for good")
    expect(page.locator("#past li")).to_contain_text("by Ada")
    assert len(site.store.frames(labelled_only=False)) == 8


def test_a_span_that_ends_before_it_begins_is_refused_in_words(open_as: Open) -> None:
    page = open_as(part="delete")
    page.locator("#begin").fill("2026-11-23T14:20")
    page.locator("#finish").fill("2026-11-23T14:00")
    page.get_by_role("button", name="Show what would go").click()
    expect(page.locator("#range-words")).not_to_be_empty()
    expect(page.locator("#sure")).to_be_hidden()


def test_pictures_of_a_phone_come_in_and_what_is_none_is_refused_by_name(
    site: LabelSite, open_as: Open, artefacts: Path, tmp_path: Path
) -> None:
    page = open_as("Lin", "add", "phone")
    files = {
        "gate.jpg": encoded(scene(900, width=640, height=480)),
        "notes.jpg": b"these are words",
        "yard.png": encoded(scene(901), "PNG"),
    }
    page.locator("#files").set_input_files([write(tmp_path / name, data) for name, data in files.items()])
    expect(page.locator("#upload-words")).to_contain_text("2 of 3 arrived")
    rows = page.locator("#uploads li")
    expect(rows.nth(0)).to_contain_text("It is in the queue")
    expect(rows.nth(1)).to_have_attribute("data-tone", "alert")
    expect(rows.nth(2)).to_contain_text("It is in the queue")
    rows.nth(2).scroll_into_view_if_needed()
    shot(page, artefacts, "data-upload-phone")
    assert len(site.store.frames(labelled_only=False)) == 12


def test_a_burst_shows_how_it_goes_and_ends_in_the_queue(site: LabelSite, open_as: Open) -> None:
    page = open_as("Lin", "add")
    page.locator("#burst-count").select_option("5")
    page.locator("#burst-every").select_option("0.5")
    page.locator("#burst").get_by_role("button").click()
    expect(page.locator("#burst .meter")).to_be_visible()
    expect(page.locator("#burst [role=status]")).to_contain_text("taken: they are in the queue", timeout=20_000)
    expect(page.locator("#burst").get_by_role("button")).to_be_enabled()
    assert {frame.reason for frame in site.store.frames(labelled_only=False)} == {"", "uncertain", "burst"} - {""}


def test_learning_the_empty_site_asks_first_whether_it_is_empty(site: LabelSite, open_as: Open) -> None:
    page = open_as("Lin", "add")
    start = page.locator("#empty").get_by_role("button")
    start.click()
    assert read_request(site.paths) is None  # the browser says what is missing
    page.locator("#empty-sure").check()
    start.click()
    expect(page.locator("#empty [role=status]")).to_have_text("Waiting for the camera.")
    request = read_request(site.paths)
    assert request is not None
    assert (request.count, request.every_s, request.label) == (12, 5, "nobody")


def test_the_owner_takes_the_data_along_and_brings_it_back(site: LabelSite, open_as: Open, tmp_path: Path) -> None:
    page = open_as(part="add")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    archive = tmp_path / "export.zip"
    download.value.save_as(archive)
    assert zipfile.ZipFile(archive).testzip() is None
    site.store.delete_all(site.ids[:2])
    page.locator("#import").set_input_files(archive)
    expect(page.locator("#import-words")).to_contain_text("2")
    expect(page.locator("#import-words")).not_to_contain_text("Being read in")
    assert len(site.store.frames(labelled_only=False)) == 10


def test_nobody_is_shown_what_they_may_not_do(open_as: Open) -> None:
    page = open_as("Vic", "add")
    expect(page.locator("#nav")).to_contain_text("viewer")
    for hidden in ("#burst", "#empty", "#upload", "#move"):
        expect(page.locator(hidden)).to_be_hidden()
    page.goto("/data#delete")
    expect(page.locator("#range")).to_be_hidden()
