"""The door as a person meets it: the first code, name and password, waiting after wrong ones, and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.label_site import LabelSite
from tests.browser.playing import SIZES, chromium, complaints, context_of, shot
from tests.fakes.camera_page import PASSWORD

from playwright.sync_api import Browser, Page, expect  # isort: skip  # skipped where it isn't installed

NEW = "seven brown cows sing"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LabelSite]:
    running = LabelSite(tmp_path, waiting=1, people=getattr(request, "param", True))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def page(chrome: Browser, site: LabelSite) -> Iterator[Page]:
    """A phone that nobody is logged in on."""
    errors: list[str] = []
    context = context_of(chrome, site, None, "phone")
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


def log_in(page: Page, name: str, password: str) -> None:
    page.locator("#name").fill(name)
    page.locator("#password").fill(password)
    page.get_by_role("button", name="Log in").tap()


def test_whoever_is_not_logged_in_is_led_to_the_door_and_on_to_where_they_wanted(page: Page, artefacts: Path) -> None:
    page.goto("/data?x=1")
    expect(page).to_have_url("/login?next=/data%3Fx%3D1")
    shot(page, artefacts, "login-phone")
    log_in(page, "Lin", PASSWORD)
    expect(page).to_have_url("/data?x=1")


def test_a_wrong_password_is_said_and_can_be_written_again(page: Page) -> None:
    page.goto("/login")
    log_in(page, "Lin", "not this one")
    expect(page.locator("#problem")).to_contain_text("Name or password is wrong")
    expect(page.locator("#password")).to_be_focused()
    log_in(page, "Lin", PASSWORD)
    expect(page).to_have_url("/")


def test_after_many_wrong_ones_the_wait_is_counted_down(page: Page, artefacts: Path) -> None:
    page.goto("/login")
    enter = page.locator("#enter")
    for _ in range(40):
        if "Wait" in str(enter.inner_text()):
            break
        page.locator("#name").fill("Lin")
        page.locator("#password").fill("a guess")
        with page.expect_response("**/api/login"):
            enter.click()
        expect(page.locator("#problem")).to_be_visible()
    expect(enter).to_contain_text("Wait")
    expect(enter).to_be_disabled()
    expect(page.locator("#problem")).to_contain_text("Too many wrong tries")
    shot(page, artefacts, "login-wait-phone")


@pytest.mark.parametrize("site", [False], indirect=True, ids=["no-account-yet"])
def test_the_first_person_makes_an_account_with_the_code_of_a_qr_code(
    site: LabelSite, page: Page, artefacts: Path
) -> None:
    code = site.accounts.new_code("admin").code
    page.goto(f"/login#code={code}")
    expect(page.locator("#code")).to_have_value(code)
    assert "code" not in page.url  # nor does the history keep it
    page.locator("#new-name").fill("Grace")
    page.locator("#new-password").fill("short")
    expect(page.locator("#strength")).to_contain_text("Too short: 5 more characters")
    page.locator("#new-password").fill(NEW)
    expect(page.locator("#strength")).to_have_text("Strong.")
    page.locator("#again").fill("another one")
    expect(page.locator("#again-hint")).to_have_text("Not the same yet.")
    shot(page, artefacts, "login-first-phone")
    page.get_by_role("button", name="Make my account").tap()
    expect(page.locator("#problem")).to_contain_text("The two passwords differ")
    page.locator("#again").fill(NEW)
    page.get_by_role("button", name="Make my account").tap()
    expect(page).to_have_url("/")
    assert [(account.name, account.role) for account in site.accounts.all()] == [("Grace", "admin")]


def test_a_code_that_is_not_good_is_refused_in_words(page: Page) -> None:
    page.goto("/login")
    page.get_by_role("button", name="I have a one-time code").tap()
    page.locator("#code").fill("XXXX-XXXX-XXXX")
    page.locator("#new-name").fill("Mallory")
    page.locator("#new-password").fill(NEW)
    page.locator("#again").fill(NEW)
    page.get_by_role("button", name="Make my account").tap()
    expect(page.locator("#problem")).not_to_be_empty()
    expect(page).to_have_url("/login")


def test_password_managers_know_the_fields(page: Page) -> None:
    page.goto("/login")
    kinds = {each.get_attribute("id"): each.get_attribute("autocomplete") for each in page.locator("input").all()}
    assert kinds == {
        "name": "username",
        "password": "current-password",
        "code": "one-time-code",
        "new-name": "username",
        "new-password": "new-password",
        "again": "new-password",
    }


def test_whoever_logs_out_is_out(site: LabelSite, chrome: Browser) -> None:
    context = context_of(chrome, site, "Lin", "phone")
    page = context.new_page()
    page.goto("/data")
    page.locator("#nav-more").tap()
    page.locator("#nav-leave").tap()
    expect(page).to_have_url("/login")
    page.goto("/data")
    expect(page).to_have_url("/login?next=/data")
    context.close()


@pytest.mark.parametrize("size", SIZES)
def test_the_door_fits_every_screen(site: LabelSite, chrome: Browser, artefacts: Path, size: str) -> None:
    context = context_of(chrome, site, None, size, dark=size == "small phone")
    page = context.new_page()
    page.goto("/login")
    assert complaints(page) == []
    page.get_by_role("button", name="I have a one-time code").click()
    assert complaints(page) == []
    shot(page, artefacts, f"login-first-{size.replace(' ', '-')}")
    context.close()


def test_the_bar_of_pages_works_by_keys_and_closes_again(site: LabelSite, chrome: Browser) -> None:
    context = context_of(chrome, site, "Ada", "phone")
    page = context.new_page()
    page.goto("/data")
    more = page.locator("#nav-more")
    more.focus()
    page.keyboard.press("Enter")
    expect(more).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("link", name="People")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="People")).to_be_hidden()
    expect(more).to_be_focused()
    expect(page.locator("#nav a[href='/data']")).to_have_attribute("aria-current", "page")
    context.close()
