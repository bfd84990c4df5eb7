"""The page of model versions, as a person uses it, against the real app; on a phone and a desktop."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.eim.replies import ImpulseInfo
from appliance.models.foreign import Found, add
from appliance.vision import InputSpec
from tests.browser.camera_site import CameraSite
from tests.browser.playing import Open, agree, press, shot

from playwright.sync_api import expect  # isort: skip  # skipped where it isn't installed

pytest_plugins = ["tests.browser.camera_pages"]
sizes = pytest.mark.parametrize("size", ["phone", "desktop"])


@sizes
def test_going_back_says_what_will_happen_shows_its_way_and_its_end(
    open_as: Open, site: CameraSite, artefacts: Path, size: str
) -> None:
    page = open_as("Ada", "/models", size)
    expect(page.locator("#current-title")).to_have_text("Version 7")
    expect(page.locator("#current-verdict")).to_have_text("109 of 111 own test frames right, 104 before.")
    row = page.locator("[data-version='6']")
    expect(row).to_contain_text("Not taken, at judge: worse on this camera's own test frames")
    shot(page, artefacts, f"models-{size}")

    site.swapper.hold.clear()
    press(page, "#rollback", size)
    shot(page, artefacts, f"models-question-{size}")
    asked = agree(page, "Roll back")
    assert asked.startswith("Roll back to version 5?")
    assert "no frame is lost" in asked
    expect(page.locator("#trial-steps [aria-current]")).to_have_text("probe")
    expect(page.locator("#working")).to_contain_text("Going back to version 5")
    expect(page.locator("#recover")).to_be_disabled()
    shot(page, artefacts, f"models-trial-{size}")
    site.swapper.hold.set()
    expect(page.locator("#told")).to_contain_text("Version 5 runs. Somebody asked for it.")
    expect(page.locator("#current-title")).to_have_text("Version 5")
    expect(page.locator("#trial")).to_be_hidden()
    assert site.shelf.current == 5


def test_recovering_goes_to_the_factory_version_and_a_kept_out_one_is_tried_again(
    open_as: Open, site: CameraSite
) -> None:
    page = open_as("Ada", "/models")
    page.get_by_role("button", name="Try version 6 again").click()
    assert "Otherwise version 7 stays" in agree(page, "Try again")
    expect(page.locator("#current-title")).to_have_text("Version 6")
    page.locator("#recover").click()
    assert "the one this camera started with" in agree(page, "Recover")
    expect(page.locator("#current-title")).to_have_text("Version 1")
    assert site.shelf.current == 1


def test_a_question_that_is_left_changes_nothing(open_as: Open, site: CameraSite) -> None:
    page = open_as("Ada", "/models")
    page.locator("#rollback").click()
    page.keyboard.press("Enter")  # the focus is on the way out, not on the deed
    expect(page.locator("dialog")).to_have_count(0)
    page.locator("#rollback").click()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert site.shelf.current == 7


@sizes
def test_a_local_version_goes_by_its_name(open_as: Open, site: CameraSite, artefacts: Path, size: str) -> None:
    info = ImpulseInfo("helmets", 3, ("hat", "head"), InputSpec(96, 96, "squash"), has_shared_memory=False)
    running = site.shelf.manifest(7)
    meaning = {"hat": "hardhat", "head": "head"}
    key = site.shelf.root.parent / "keys" / "local-models.key"
    found = Found(info, b"an .eim")
    added = add(site.shelf, key, found, labels=running.labels, theirs=meaning, name="", fleet=running.fleet)
    page = open_as("Ada", "/models", size)
    row = page.locator(f"[data-version='{added.version}']")
    expect(row.locator("h3")).to_have_text("helmets")
    expect(row.locator(".facts")).to_contain_text(f"Version {added.version}, this camera")
    site.shelf.activate(added.version)
    expect(page.locator("#current-title")).to_contain_text("helmets")
    shot(page, artefacts, f"models-local-{size}")
