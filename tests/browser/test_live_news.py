"""What happens in front of the camera and to it, as a person sees and hears it: alarm, doubts, conditions, trials."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.events import Event
from appliance.frame import Doubt
from appliance.web.server import PageServer
from appliance.web.source import PageTrial, PageVerdict
from tests.browser.chromium import Tab
from tests.browser.looking import PICTURE, SIZES, contrast, overlaps, place, sideways
from tests.fakes.page_source import FakePageSource, bare_head, condition, decision

OpenPage = Callable[..., Tab]
ON = "document.querySelector('#alarm').dataset.state === 'on'"
CALM = "document.querySelector('#alarm').dataset.state === 'none'"
HEARD = "document.querySelector('#alarm-spoken').textContent"
BERLIN = ZoneInfo("Europe/Berlin")

sizes = pytest.mark.parametrize("size", SIZES)
views = pytest.mark.parametrize(
    ("size", "dark"),
    [("phone", False), ("small phone", True), ("desktop", False), ("desktop", True)],
    ids=["phone, light", "small phone, dark", "desktop, light", "desktop, dark"],
)


def raise_alarm(source: FakePageSource, began_utc: datetime | None = None) -> Event:
    event = bare_head(began_utc or datetime.now(UTC))
    source.decision = decision("head", 0.93)
    source.page = replace(source.page, alarm=event, events=(event, *source.page.events))
    return event


def at(moment: datetime) -> str:
    """Today's time on the site's clock, or with the day just after its midnight."""
    local, today = moment.astimezone(BERLIN), datetime.now(BERLIN)
    day = "" if local.date() == today.date() else f"{local.day} {local:%b}, "
    return f"{day}{local:%H:%M:%S}"


def everything_at_once(source: FakePageSource) -> None:
    """An alarm, every condition, both faults, a trial and ten events."""
    now = datetime.now(UTC)
    raise_alarm(source, now)
    source.page = replace(
        source.page,
        camera_fault="Pi camera 0 sent no picture within 5 s. The page shows the last one. Check the ribbon cable.",
        model_fault="Version 7 gave no answer within 2 s. Nothing is recognised until it answers again.",
        conditions=tuple(condition(kind, now) for kind in ("dark", "frozen", "slow")),
        trial=PageTrial(8, "activate"),
        events=tuple(bare_head(now - timedelta(days=day), lasted_s=1000.0 * day) for day in range(10)),
    )


@views
def test_an_alarm_is_unmissable_and_moves_nothing(
    open_page: OpenPage, source: FakePageSource, artefacts: Path, size: str, dark: bool
) -> None:
    tab = open_page(size, dark=dark)
    tab.wait_for(f"{PICTURE} && {CALM}")
    assert tab.text("#alarm-words") == "No alarm"
    parts = ("#alarm", "#screen", "#decision", "#scores")
    before = {part: place(tab, part) for part in parts}
    event = raise_alarm(source)
    tab.wait_for(ON)
    tab.wait_for("document.querySelector('#words').textContent === 'Bare head'")
    tab.screenshot(artefacts / f"alarm-{size.replace(' ', '-')}-{'dark' if dark else 'light'}.png")
    assert tab.text("#alarm-words") == f"Bare head seen, since {at(event.began_utc)}"
    assert tab.run("document.querySelector('#alarm-icon').getAttribute('href')") == "#icon-alarm"
    assert re.match("⚠ Bare head seen . North gate", tab.run("document.title"))
    assert contrast(tab, "#alarm-words", "#alarm") >= 7
    assert contrast(tab, "#alarm", "body", of="backgroundColor") >= 4.5
    assert {part: place(tab, part) for part in parts} == before
    assert (sideways(tab), overlaps(tab)) == (0, [])


@sizes
def test_an_alarm_stays_in_sight_while_the_page_is_read_and_covers_no_focus(
    open_page: OpenPage, source: FakePageSource, size: str
) -> None:
    tab = open_page(size)
    tab.wait_for(PICTURE)
    everything_at_once(source)
    tab.wait_for(ON)
    tab.run("scrollTo(0, document.body.scrollHeight)")
    assert tab.run("scrollY") > 0
    assert tab.run("document.querySelector('#alarm').getBoundingClientRect().top") == 0
    half_out = place(tab, "#pause")[1] + 20
    tab.run(f"scrollTo(0, {half_out}); document.querySelector('#pause').focus()")
    covered = "document.querySelector('#alarm').getBoundingClientRect().bottom"
    assert tab.run(f"document.querySelector('#pause').getBoundingClientRect().top >= {covered}")


def test_an_alarm_is_spoken_once_per_event_however_often_it_is_told(tab: Tab, source: FakePageSource) -> None:
    assert tab.run("document.querySelector('#alarm-spoken').getAttribute('aria-live')") == "assertive"
    tab.run(
        f"window.heard = []; new MutationObserver(() => {{ if ({HEARD}) window.heard.push({HEARD}); }})"
        ".observe(document.querySelector('#alarm-spoken'), {childList: true, characterData: true, subtree: true})"
    )
    tab.run(
        "window.updates = 0; new MutationObserver(() => { window.updates += 1; })"
        ".observe(document.querySelector('#taken'), {childList: true, characterData: true, subtree: true})"
    )
    first = raise_alarm(source, datetime.now(UTC) - timedelta(seconds=30))
    tab.wait_for("window.updates >= 3 && window.heard.length > 0")
    source.page = replace(source.page, alarm=replace(first, detail={"decisions": 99.0}), frames_dropped=4)
    tab.wait_for("document.querySelector('#dropped').textContent === '4'")
    said = f"Alarm: Bare head seen, since {at(first.began_utc)}."
    assert tab.run("window.heard") == [said]

    source.page = replace(source.page, alarm=None)
    tab.wait_for(CALM)
    source.page = replace(source.page, alarm=first)
    tab.wait_for(ON)
    assert tab.run("window.heard") == [said]

    second = raise_alarm(source)
    tab.wait_for("window.heard.length === 2")
    assert tab.run("window.heard[1]") == f"Alarm: Bare head seen, since {at(second.began_utc)}."


def test_an_alarm_that_lasts_when_the_page_is_opened_is_spoken_too(source: FakePageSource, open_page: OpenPage) -> None:
    event = raise_alarm(source)
    tab = open_page("phone")
    tab.wait_for(f"{HEARD} === 'Alarm: Bare head seen, since {at(event.began_utc)}.'")


def test_an_alarm_that_is_over_leaves_when_it_was(tab: Tab, source: FakePageSource) -> None:
    event = raise_alarm(source)
    tab.wait_for(ON)
    over = replace(event, ended_utc=event.began_utc + timedelta(seconds=12))
    source.page = replace(source.page, alarm=None, events=(over, *source.page.events[1:]))
    tab.wait_for(CALM)
    assert tab.text("#alarm-more") == f"Last: {at(event.began_utc)}"
    assert not tab.run("document.title").startswith("⚠")


def test_a_camera_that_cannot_see_never_says_no_alarm(tab: Tab, source: FakePageSource) -> None:
    blind = "document.querySelector('#alarm').dataset.state === 'blind'"
    more = "document.querySelector('#alarm-more').textContent"
    healthy = source.page
    for kind, words in (("dark", "The picture is dark"), ("frozen", "The picture stands still")):
        source.page = replace(healthy, conditions=(condition(kind, datetime.now(UTC)),))
        tab.wait_for(f"{blind} && {more} === '{words}'")
        assert tab.text("#alarm-words") == "Not watching"
    source.page = healthy
    tab.wait_for(CALM)
    source.decision = None
    tab.wait_for(f"{blind} && {more} === 'No model answers'")
    source.flowing.clear()
    tab.wait_for(f"{blind} && {more}.startsWith('No picture since ')")


def test_a_camera_without_a_fleet_works_alone_and_has_no_broken_model(tab: Tab, source: FakePageSource) -> None:
    why = "This camera works alone. Enrol it"
    source.decision = None
    source.page = replace(source.page, fleet="", model_version=None, model_fault=why)
    tab.wait_for("document.querySelector('#alarm-words').textContent === 'Works alone'")
    assert tab.text("#alarm-more") == "No fleet, so no model and no nights"
    assert tab.text("#notice-model-words") == why
    assert tab.text("#health-model dd") == "None"


@pytest.mark.parametrize("alarm", [False, True], ids=["calm", "alarm"])
def test_a_lost_connection_looks_neither_like_an_alarm_nor_like_safety(
    tab: Tab, server: PageServer, source: FakePageSource, alarm: bool
) -> None:
    if alarm:
        raise_alarm(source)
    tab.wait_for(f"{PICTURE} && {ON if alarm else CALM}")
    server.stop()
    tab.wait_for("document.body.dataset.link === 'lost'")
    assert tab.run("document.querySelector('#alarm').dataset.state") == ("was" if alarm else "blind")
    assert tab.text("#alarm-words").startswith("Bare head seen, since" if alarm else "Alarm unknown")
    assert re.search(r"As of \d\d:\d\d:\d\d: connection lost", tab.text("#alarm-more"))


@sizes
def test_a_doubt_says_why_and_moves_nothing(open_page: OpenPage, source: FakePageSource, size: str) -> None:
    tab = open_page(size)
    tab.wait_for(PICTURE)
    before = place(tab, "#scores")
    for doubt, words in (
        (Doubt.UNFAMILIAR, "Unlike anything this camera was taught"),
        (Doubt.LOW_SCORE, "The best score is low"),
    ):
        source.decision = decision(None, 0.52, doubt=doubt)
        tab.wait_for(f"document.querySelector('#sure').textContent === '{words}'")
        assert tab.text("#words") == "Unsure"
        assert place(tab, "#scores") == before
        assert overlaps(tab) == []
    tab.wait_for("document.querySelector('#spoken').textContent.startsWith('Unsure: The best score is low.')")


@views
def test_conditions_stand_beside_faults_and_hide_nothing(
    open_page: OpenPage, source: FakePageSource, artefacts: Path, size: str, dark: bool
) -> None:
    tab = open_page(size, dark=dark)
    tab.wait_for(PICTURE)
    screen = place(tab, "#screen")
    everything_at_once(source)
    tab.wait_for("document.querySelectorAll('#conditions .notice').length === 3")
    tab.wait_for(ON)
    tab.screenshot(artefacts / f"bad-{size.replace(' ', '-')}-{'dark' if dark else 'light'}.png", whole=True)
    told = tab.text(".notices")
    for event in source.page.conditions:
        assert event.sentence in told
        assert at(event.since_utc) in told
    assert all(name in told for name in ("Dark picture", "Frozen picture", "Few pictures"))
    assert "Check the ribbon cable" in told
    assert "gave no answer within 2 s" in told
    assert contrast(tab, "#conditions .why", "#conditions .notice") >= 7
    assert (sideways(tab), overlaps(tab)) == (0, [])
    assert place(tab, "#screen")[2:] == screen[2:]
    bottom = place(tab, "#screen")[1] + screen[3]
    assert bottom <= SIZES[size][1], "the picture must be seen without scrolling"


def test_a_condition_is_withdrawn_when_it_is_over_and_the_others_are_left_alone(
    tab: Tab, source: FakePageSource
) -> None:
    dark, slow = (condition(kind, datetime.now(UTC)) for kind in ("dark", "slow"))
    source.page = replace(source.page, conditions=(dark, slow))
    tab.wait_for("document.querySelectorAll('#conditions .notice').length === 2")
    assert tab.text("#health-camera dd") == "Dark, Slow"
    assert tab.text("#sure") == "97 % sure, but the picture is dark"
    assert tab.run("document.querySelector('#decision').dataset.tone") == "calm"
    tab.run("window.slow = document.querySelector('#conditions [data-kind=slow]')")
    source.page = replace(source.page, conditions=(slow,))
    tab.wait_for("document.querySelectorAll('#conditions .notice').length === 1")
    assert tab.run("window.slow === document.querySelector('#conditions .notice')")
    assert tab.text("#sure") == "97 % sure"
    source.page = replace(source.page, conditions=())
    tab.wait_for("document.querySelectorAll('#conditions .notice').length === 0")
    assert tab.text("#health-camera dd") == "Working"


@views
def test_a_trial_shows_its_steps_and_then_the_verdict_with_its_state(
    open_page: OpenPage, source: FakePageSource, artefacts: Path, size: str, dark: bool
) -> None:
    tab = open_page(size, dark=dark)
    source.page = replace(source.page, trial=PageTrial(8, "judge"))
    tab.wait_for("!document.querySelector('#trial').hidden")
    tab.screenshot(artefacts / f"trial-{size.replace(' ', '-')}-{'dark' if dark else 'light'}.png", whole=True)
    assert tab.text("#trial-head") == "Version 8 is being tried: judge."
    assert tab.text("#trial-words").startswith("Step 4 of 7: ")
    steps = tab.run("[...document.querySelectorAll('#trial-steps li')].map((step) => step.textContent)")
    assert steps == ["verify", "stage", "probe", "judge", "activate", "soak", "commit"]
    assert tab.text("#trial-steps [aria-current=step]") == "judge"
    assert tab.run("document.querySelectorAll('#trial-steps .past').length") == 3
    assert all(place(tab, f"#trial-steps li:nth-child({step})")[3] < 30 for step in range(1, 8)), "one line each"
    assert (sideways(tab), overlaps(tab)) == (0, [])
    assert contrast(tab, "#trial-steps .past", "#trial-steps .past") >= 7
    assert contrast(tab, "#trial-steps [aria-current]", "#trial-steps [aria-current]") >= 7
    assert contrast(tab, "#trial-steps li:last-child", ".model") >= 7

    worse = "Worse on this camera's own test frames of head: 31 of 40 right, 38 before"
    verdict = PageVerdict(8, False, worse, datetime.now(UTC), "judge", True)
    source.page = replace(source.page, trial=None, last_verdict=verdict)
    tab.wait_for("document.querySelector('#trial').hidden && !document.querySelector('#last').hidden")
    assert tab.text("#last").startswith(f"Version 8 was not taken, at judge: {worse}")
    assert tab.text("#last").endswith("It is not tried again by itself.")
    assert tab.run("document.querySelector('#last-icon').getAttribute('href')") == "#icon-bad"
    assert contrast(tab, "#last-words", ".model") >= 7
    assert (sideways(tab), overlaps(tab)) == (0, [])


def test_a_trial_that_is_rolled_back_shows_where_it_failed(tab: Tab, source: FakePageSource) -> None:
    source.page = replace(source.page, trial=PageTrial(8, "soak"), model_version=8)
    tab.wait_for("document.querySelector('#trial-steps [aria-current]')?.textContent === 'soak'")
    assert "New" in tab.text(".version")
    source.page = replace(source.page, trial=PageTrial(8, "rollback"), model_version=7)
    tab.wait_for("document.querySelector('#trial').dataset.back === 'true'")
    assert tab.text("#trial-head") == "Version 8 did not pass: rollback."
    assert tab.text("#trial-words") == "The old version stays."
    assert tab.text("#trial-steps [aria-current]") == "soak"
    assert "New" not in tab.text(".version")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (("soak", False), "Version 8 was not taken, at soak: Because (.*)."),
        (("rollback", True), "Version 8 was taken out again: Because (.*). It is not tried again by itself."),
        (("", False), "Version 8 was not taken: Because (.*)."),
    ],
)
def test_a_verdict_says_what_became_of_the_version(
    tab: Tab, source: FakePageSource, verdict: tuple[str, bool], words: str
) -> None:
    state, quarantined = verdict
    told = PageVerdict(8, False, "because.", datetime.now(UTC), state, quarantined)
    source.page = replace(source.page, last_verdict=told)
    tab.wait_for("document.querySelector('#last-words').textContent.startsWith('Because')")
    assert re.fullmatch(words.replace("(.*)", r"\(.*\)"), tab.text("#last"))


@sizes
def test_the_last_ten_events_have_their_times_and_how_long_they_lasted(
    open_page: OpenPage, source: FakePageSource, size: str
) -> None:
    began = datetime.now(UTC)
    lasting = bare_head(began)
    past = [bare_head(began - timedelta(seconds=s), lasted_s=s) for s in (0.2, 12, 60, 125, 3600, 7500, 86400, 100_000)]
    dark = Event("dark", "The picture is black. Look at the lens.", began, began + timedelta(seconds=9))
    tab = open_page(size)
    source.page = replace(source.page, events=(lasting, dark, *past))
    tab.wait_for("document.querySelectorAll('#events-list li').length === 10")
    rows = tab.run("[...document.querySelectorAll('#events-list li')].map((row) => row.textContent)")
    assert rows[0] == f"Bare head seen · {at(began)} · now"
    assert rows[1] == f"Dark picture · {at(began)} · 9 s"
    lasted = [row.rpartition(" · ")[2] for row in rows[2:]]
    assert lasted == ["under 1 s", "12 s", "1 min", "2 min 5 s", "1 h", "2 h 5 min", "1 d", "1 d 3 h"]
    assert tab.run("document.querySelector('#events-list time').dateTime") == began.isoformat()
    assert contrast(tab, ".events .long", ".events .lasting .long") >= 7
    assert contrast(tab, ".events li:last-child", ".events") >= 7
    assert (sideways(tab), overlaps(tab)) == (0, [])


def test_no_events_are_told_in_words(tab: Tab, source: FakePageSource) -> None:
    source.page = replace(source.page, events=())
    tab.wait_for("document.querySelector('#events-list').hidden")
    assert tab.text("#events-none") == "Nothing has happened yet."


def test_words_from_outside_are_shown_as_they_are_and_never_run(open_page: OpenPage, source: FakePageSource) -> None:
    nasty = "<img src=x onerror=alert(1)>" + "x" * 60
    now = datetime.now(UTC)
    event = Event("seen", nasty, now)
    unknown = replace(condition("dark", now), kind="misty", sentence=nasty)
    verdict = PageVerdict(8, False, nasty, now, "judge")
    source.page = replace(source.page, alarm=event, events=(event,), conditions=(unknown,), last_verdict=verdict)
    tab = open_page("small phone")
    tab.wait_for(f"{ON} && document.querySelectorAll('#conditions .notice').length === 1")
    for part in ("#alarm", "#conditions", "#events-list", "#last"):
        assert nasty in tab.text(part)
    assert "Misty, since" in tab.text("#conditions")
    assert (sideways(tab), tab.complaints()) == (0, [])
