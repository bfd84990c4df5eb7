"""Two minutes of labelling as a person does them: by keys and by thumb, with slips, and with a camera in trouble."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.label_site import LabelSite
from tests.browser.playing import SIZES, chromium, complaints, context_of, shot

from playwright.sync_api import Browser, Page, Route, expect  # isort: skip  # skipped where it isn't installed

READY = "#box[data-state=shown]"
LABELS = {"1": "head", "2": "hardhat", "3": "nobody"}
WORDS = {"1": "Bare head", "2": "Hardhat", "3": "Nobody here"}
CANT_TELL = "Can\N{RIGHT SINGLE QUOTATION MARK}t tell"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LabelSite]:
    running = LabelSite(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def open_as(chrome: Browser, site: LabelSite) -> Iterator[Open]:
    """``open_as("Lin", "/label", "phone")``: a page that has no error of its own in the end."""
    contexts, errors = [], []

    def opened(name: str = "Lin", path: str = "/label", size: str = "desktop", *, dark: bool = False) -> Page:
        context = context_of(chrome, site, name, size, dark=dark)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def press(page: Page, key: str) -> None:
    """A key, once the picture is there and the guard against double taps is over."""
    ready(page)
    page.keyboard.press(key)


def ready(page: Page) -> None:
    page.wait_for_selector(READY)
    page.wait_for_timeout(260)


def place(page: Page, words: str) -> None:
    expect(page.locator("#place")).to_have_text(words)


def labels(site: LabelSite) -> list[str | None]:
    return [frame.label for frame in site.said()]


def test_twelve_frames_are_labelled_by_keys_alone(site: LabelSite, open_as: Open, artefacts: Path) -> None:
    page = open_as()
    expect(page.locator("#hello")).to_contain_text("12 frames today, about 2 minutes")
    keys = list(itertools.islice(itertools.cycle("123"), 12))
    for number, key in enumerate(keys, start=1):
        place(page, f"{number} of 12")
        press(page, key)
    expect(page.locator("#end-title")).to_have_text("Thank you")
    expect(page.locator("#end-words")).to_contain_text("12 frames are labelled today")
    expect(page.locator("#changed")).to_contain_text("12 labelled frames")
    shot(page, artefacts, "label-end-desktop")
    assert labels(site) == [LABELS[key] for key in keys]
    assert {frame.labelled_by for frame in site.said()} == {"Lin"}


def test_twelve_frames_are_labelled_by_a_thumb(site: LabelSite, open_as: Open, artefacts: Path) -> None:
    page = open_as(size="phone")
    shot(page, artefacts, "label-phone")
    for number in range(12):
        place(page, f"{number + 1} of 12")
        ready(page)
        box = page.locator("#answers .answer").nth(number % 3).bounding_box()
        assert box is not None
        assert box["height"] >= 72  # gloves
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#end-title")).to_have_text("Thank you")
    expect(page.locator("#changed")).to_contain_text("12 labelled frames")
    shot(page, artefacts, "label-end-phone")
    assert len(site.said()) == 12


def test_a_slip_is_taken_back_before_and_after_it_was_saved(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    press(page, "1")
    place(page, "2 of 12")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    press(page, "u")
    place(page, "1 of 12")
    press(page, "2")
    place(page, "2 of 12")
    press(page, "ArrowLeft")
    place(page, "1 of 12")
    press(page, "3")
    place(page, "2 of 12")
    expect(page.locator("#undo")).to_contain_text("Nobody here")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    assert labels(site) == ["nobody"]


def test_what_nobody_can_tell_is_kept_as_that_and_what_is_skipped_comes_again(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    press(page, "0")
    press(page, "s")
    for number in range(10):
        place(page, f"{number + 3} of 12")
        press(page, "1")
    expect(page.locator("#tally")).to_contain_text("1 " + CANT_TELL)
    expect(page.locator("#tally")).to_contain_text("1 Skipped")
    expect(page.locator("#more")).to_have_text("1 frame put off")
    page.locator("#more").click()
    place(page, "1 of 1")
    press(page, "2")
    expect(page.locator("#end-title")).to_have_text("Thank you")
    assert [frame.unclear for frame in site.said()].count(True) == 1
    assert labels(site).count("hardhat") == 1


def test_whoever_has_time_left_gets_more_frames(site: LabelSite, open_as: Open) -> None:
    for seed in range(20, 23):
        site.keep(seed)
    page = open_as()
    for number in range(12):
        place(page, f"{number + 1} of 12")
        press(page, "1")
    expect(page.locator("#more")).to_have_text("3 more")
    page.locator("#more").click()
    for number in range(3):
        place(page, f"{number + 1} of 3")
        press(page, "2")
    expect(page.locator("#end-words")).to_contain_text("15 frames are labelled today")
    expect(page.locator("#changed")).to_contain_text("15 labelled frames")
    expect(page.locator("#more")).to_be_hidden()
    assert labels(site) == ["head"] * 12 + ["hardhat"] * 3


def test_a_second_tap_within_a_quarter_of_a_second_is_no_answer_to_the_next_picture(
    site: LabelSite, open_as: Open
) -> None:
    page = open_as()
    ready(page)
    page.evaluate("""() => {
      const button = document.querySelector('#answers .answer');
      button.click();
      new MutationObserver((_, watching) => {
        if (document.querySelector('#box').dataset.state !== 'shown') return;
        watching.disconnect();
        button.click();
      }).observe(document.querySelector('#box'), { attributes: true });
    }""")
    place(page, "2 of 12")
    ready(page)
    place(page, "2 of 12")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    assert len(site.said()) == 1


def test_a_key_that_is_held_down_answers_once(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    ready(page)
    page.keyboard.down("1")
    place(page, "2 of 12")
    ready(page)
    page.keyboard.down("1")  # Playwright marks it as a repetition, as a held key does
    page.keyboard.up("1")
    place(page, "2 of 12")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    assert len(site.said()) == 1


def test_an_error_in_the_middle_is_said_and_the_answer_is_tried_again(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    press(page, "1")
    errors = [500, 503]

    def stumble(route: Route) -> None:
        if errors:
            route.fulfill(status=errors.pop(), json={"error": {"what": "The store stumbled", "means": "", "do": ""}})
        else:
            route.continue_()

    page.route("**/api/frames/*/label", stumble)
    press(page, "2")
    expect(page.locator("#trouble")).to_contain_text("The store stumbled")
    expect(page.locator("#kept-words")).to_contain_text("not saved")
    press(page, "3")
    place(page, "4 of 12")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    expect(page.locator("#trouble")).to_be_empty()
    assert labels(site) == ["head", "hardhat", "nobody"]


def test_an_answer_that_the_camera_refuses_is_said_and_its_picture_comes_back(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    refusal = {"error": {"what": "The store is full", "means": "Nothing was stored", "do": "Delete frames"}}
    page.route("**/api/frames/*/label", lambda route: route.fulfill(status=507, json=refusal), times=1)
    press(page, "1")
    expect(page.locator("#trouble")).to_contain_text("“Bare head” was not saved. The store is full.")
    place(page, "1 of 12")
    for number in range(12):
        place(page, f"{number + 1} of 12")
        press(page, "2")
    expect(page.locator("#end-title")).to_have_text("Thank you")
    assert labels(site) == ["hardhat"] * 12


def test_without_a_network_answers_are_kept_in_order_and_go_out_later(
    site: LabelSite, open_as: Open, artefacts: Path
) -> None:
    page = open_as(size="phone", dark=True)
    press(page, "1")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    page.context.set_offline(True)
    press(page, "2")
    press(page, "3")
    expect(page.locator("#kept-words")).to_have_text("2 not saved")
    expect(page.locator("#trouble")).to_contain_text("2 answers are kept here")
    shot(page, artefacts, "label-offline-phone-dark")
    assert labels(site) == ["head"]
    page.context.set_offline(False)
    expect(page.locator("#kept-words")).to_have_text("Saved")
    assert labels(site) == ["head", "hardhat", "nobody"]


def test_a_session_that_ends_keeps_the_answers_and_offers_the_login(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    press(page, "1")
    expect(page.locator("#kept-words")).to_have_text("Saved")
    page.context.clear_cookies()
    press(page, "2")
    expect(page.locator("#trouble")).to_contain_text("not logged in any more")
    expect(page.locator("#trouble a")).to_have_attribute("href", "/login?next=/label")
    page.context.add_cookies([site.cookie("Lin")])  # type: ignore[list-item]
    expect(page.locator("#kept-words")).to_have_text("Saved")
    assert labels(site) == ["head", "hardhat"]


def test_frames_that_were_deleted_meanwhile_are_passed_over(site: LabelSite, open_as: Open) -> None:
    page = open_as()
    ready(page)
    page.wait_for_load_state("networkidle")  # two more are there already
    first = page.evaluate("document.querySelector('#image img').src.split('/').at(-2)")
    site.store.delete_all([each for each in site.ids if each != first])
    press(page, "1")
    press(page, "1")
    expect(page.locator("#trouble")).to_contain_text("“Bare head” was not saved")
    press(page, "1")
    expect(page.locator("#end-words")).to_contain_text("1 frame is labelled today")
    assert labels(site) == ["head"]


def test_one_looks_closer_by_key_and_by_touch(open_as: Open) -> None:
    page = open_as(size="phone")
    ready(page)
    box = page.locator("#box").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 100, box["y"] + 100)
    expect(page.locator("#box")).to_have_attribute("data-zoomed", "true")
    page.keyboard.press("z")
    expect(page.locator("#box")).to_have_attribute("data-zoomed", "false")
    page.locator("#zoom").tap()
    expect(page.locator("#box")).to_have_attribute("data-zoomed", "true")
    press(page, "1")
    place(page, "2 of 12")
    expect(page.locator("#box")).to_have_attribute("data-zoomed", "false")  # the next one is whole


def test_a_screen_reader_hears_which_picture_and_what_was_said(open_as: Open) -> None:
    page = open_as()
    ready(page)
    expect(page.locator("#image img")).to_have_attribute("alt", "Picture 1 of 12, taken " + taken(page))
    for key, words in WORDS.items():
        expect(page.get_by_role("button", name=words)).to_have_attribute("aria-keyshortcuts", key)
    press(page, "2")
    expect(page.locator("#spoken")).to_have_text("Hardhat. Picture 2 of 12.")


def taken(page: Page) -> str:
    return str(page.locator("#taken").inner_text()).split(" · ")[0]


def test_nothing_on_the_page_tells_what_the_model_thinks(open_as: Open) -> None:
    page = open_as()
    asked = page.request.get("/api/queue").json()["frames"]
    assert len(asked) == 12
    assert all({"guess", "score", "version"}.isdisjoint(frame) for frame in asked)


def test_a_viewer_is_told_that_labelling_needs_another_role(open_as: Open) -> None:
    page = open_as("Vic")
    expect(page.locator("#blank-words")).to_contain_text("labelling needs the role labeller")
    expect(page.locator("#nav a[href='/label']")).to_have_count(0)


@pytest.mark.parametrize("device", ["phone", "desktop"])
def test_the_page_fits_every_screen_and_glove(open_as: Open, artefacts: Path, device: str) -> None:
    page = open_as(size=device)
    press(page, "1")
    ready(page)
    for size, (width, height) in SIZES.items():
        if (size == "desktop") != (device == "desktop"):
            continue
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            shot(page, artefacts, f"label-{size.replace(' ', '-')}-{scheme}")
        assert complaints(page) == []
        for button in page.locator(".answer").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 72
            assert box["y"] + box["height"] <= height  # no scrolling between two pictures


def test_two_hundred_per_cent_zoom_loses_nothing(open_as: Open) -> None:
    page = open_as()
    page.set_viewport_size({"width": 640, "height": 400})  # what a desktop shows at 200 %
    press(page, "1")
    ready(page)
    assert complaints(page) == []
    for button in page.locator(".answer").all():
        button.scroll_into_view_if_needed()
        expect(button).to_be_in_viewport(ratio=0.99)


@pytest.fixture
def disputed(site: LabelSite) -> list[str]:
    """Frames that Bo called head, and the model a hardhat, ever less surely."""
    return [site.keep(100 + n, guess="hardhat", score=0.99 - 0.1 * n, label="head") for n in range(4)]


def test_disagreements_are_settled_by_keys(
    site: LabelSite, open_as: Open, disputed: list[str], artefacts: Path
) -> None:
    page = open_as(path="/review")
    cards = page.locator(".frame")
    expect(cards).to_have_count(4)
    expect(cards.first).to_contain_text("Bo said")
    expect(cards.first).to_contain_text("99 %")
    shot(page, artefacts, "review-desktop")
    page.keyboard.press("ArrowRight")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("c")
    expect(cards.nth(0)).to_contain_text("Changed to Hardhat")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(cards.nth(1)).to_contain_text("Kept Bare head")
    expect(cards.nth(2)).to_be_focused()
    page.keyboard.press("3")
    expect(cards.nth(2)).to_contain_text("Changed to Nobody here")
    page.keyboard.press("0")
    expect(cards.nth(3)).to_contain_text("Marked as")
    found = [site.store.frame(each) for each in disputed]
    assert [frame.label for frame in found] == ["hardhat", "head", "nobody", None]
    assert [frame.labelled_by for frame in found[:3]] == ["Lin"] * 3


def test_a_settled_disagreement_is_taken_back(site: LabelSite, open_as: Open, disputed: list[str]) -> None:
    page = open_as(path="/review", size="phone")
    first = page.locator(".frame").first
    first.get_by_role("button", name="Change to Hardhat").tap()
    first.get_by_role("button", name="Undo").tap()
    expect(first.get_by_role("button", name="Keep Bare head")).to_be_visible()
    assert site.store.frame(disputed[0]).label == "head"
    assert site.store.frame(disputed[0]).labelled_by == "Bo"
    assert complaints(page) == []
