"""Starting a night's run and following it, with a SuperLink that only pretends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from appliance.errors import NightError
from server import night
from server.config import ServerSettings, load
from server.night import EXIT_CODES, hold_night
from server.paths import ServerPaths
from server.registry import NightRecord, Registry
from server.roster import Roster
from server.superlink import SuperLink
from tests.fakes.site import write_server_settings


class Link:
    """A SuperLink whose runs do as a test says.

    Args:
        on_look: Called with the registry whenever somebody asks for the run's status; gives that status.
    """

    def __init__(self, registry: Registry, on_look: Callable[[Registry], str]) -> None:
        self._registry, self._on_look = registry, on_look
        self.refuses = ""
        self.night = 0
        self.starts = 0
        self.log = Path("superlink.log")
        self.away = 0  # so many times it doesn't answer

    def prepare(self) -> None: ...

    def stop_runs(self) -> None: ...

    def start_run(self, night: int) -> int:
        self.night = night
        self.starts += 1
        if self.refuses:
            raise NightError(self.refuses)
        self._registry.note(night, "it began")
        return 1

    def answers(self) -> bool:
        self.away -= 1
        return self.away < 0

    def run_status(self, _: int) -> str:
        return self._on_look(self._registry)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    monkeypatch.setattr(night, "_POLL_S", 0.01)
    monkeypatch.setattr(night, "_LOOK_S", 0.05)
    monkeypatch.setattr(night, "_STARTS", 3)
    settings = load(write_server_settings(tmp_path / "server.toml"))
    settings.state_dir.mkdir()
    return settings


@pytest.fixture
def registry(settings: ServerSettings) -> Registry:
    registry = Registry(ServerPaths(settings.state_dir).registry)
    Roster(ServerPaths(settings.state_dir).registry).enrol(7, "gate", "key")
    return registry


def hold(settings: ServerSettings, link: Link, said: list[str], name: str = "tonight") -> NightRecord:
    return hold_night(settings, cast("SuperLink", link), said.append, name=name)


def test_a_night_is_followed_to_its_outcome(settings: ServerSettings, registry: Registry) -> None:
    said: list[str] = []

    def ends(registry: Registry) -> str:
        registry.note(1, "Round 1 of 1")
        registry.end(1, "published", "Version 2 runs", {"rounds": [{}]})
        return "finished:completed"

    record = hold(settings, Link(registry, ends), said)
    assert (record.outcome, record.message, record.name) == ("published", "Version 2 runs", "tonight")
    assert said == ["it began", "Round 1 of 1"]


def test_the_last_sentence_before_the_end_is_said_too(settings: ServerSettings, registry: Registry) -> None:
    """The ServerApp writes sentence and outcome at once; whoever reads events first must look again."""
    said: list[str] = []
    link = Link(registry, lambda _: "running")
    real = Registry.events

    def then_it_ends(self: Registry, night_id: int, *, after: int = 0) -> list[tuple[int, str]]:
        seen = real(self, night_id, after=after)
        registry.note(night_id, "gate runs version 2")
        registry.end(night_id, "published", "Version 2 runs", {})
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "events", then_it_ends)
        hold(settings, link, said)
    assert "gate runs version 2" in said


def test_a_night_without_a_name_has_todays(settings: ServerSettings, registry: Registry) -> None:
    def ends(registry: Registry) -> str:
        registry.end(1, "kept", "why", {})
        return "running"

    assert hold(settings, Link(registry, ends), [], name="").name == datetime.now(UTC).date().isoformat()


def test_a_server_app_that_dies_again_and_again_ends_the_night(settings: ServerSettings, registry: Registry) -> None:
    link = Link(registry, lambda _: "finished:failed")
    with pytest.raises(NightError, match="ended 3 times without an outcome"):
        hold(settings, link, [])
    assert link.starts == 3
    assert registry.night(1).outcome == "failed"


def test_a_server_app_that_died_once_is_started_again(settings: ServerSettings, registry: Registry) -> None:
    link = Link(registry, lambda _: "finished:failed")

    def dies_once(registry: Registry) -> str:
        if link.starts == 2:
            registry.end(1, "published", "Version 2 runs", {})
        return "finished:failed"

    link = Link(registry, dies_once)
    assert hold(settings, link, []).outcome == "published"
    assert link.starts == 2


def test_a_superlink_that_is_away_is_waited_for(settings: ServerSettings, registry: Registry) -> None:
    said: list[str] = []

    def ends(registry: Registry) -> str:
        if link.starts == 2:
            registry.end(1, "published", "Version 2 runs", {})
        return "finished:failed"

    link = Link(registry, ends)
    link.away = 5
    assert hold(settings, link, said).outcome == "published"
    assert "The SuperLink does not answer; the night waits for it" in said


def test_a_night_that_was_cut_off_is_gone_on_with(settings: ServerSettings, registry: Registry) -> None:
    cut_off = registry.begin("tonight")
    said: list[str] = []

    def ends(registry: Registry) -> str:
        registry.end(cut_off, "published", "Version 2 runs", {})
        return "running"

    assert hold(settings, Link(registry, ends), said, name="another").id == cut_off
    assert said[0] == "Going on with the night tonight, which was cut off"


def test_a_night_whose_window_is_over_is_ended_and_another_begun(settings: ServerSettings, registry: Registry) -> None:
    old = registry.begin("old")
    with sqlite3.connect(ServerPaths(settings.state_dir).registry) as database:
        database.execute("UPDATE nights SET began_utc = '2026-03-01T00:00:00+00:00'")
    database.close()

    def ends(registry: Registry) -> str:
        registry.end(old + 1, "kept", "why", {})
        return "running"

    assert hold(settings, Link(registry, ends), [], name="new").name == "new"
    assert registry.night(old).outcome == "failed"
    assert "window is over" in registry.night(old).message


def test_two_nights_at_once_are_refused(settings: ServerSettings, registry: Registry) -> None:
    problems: list[str] = []

    def try_another(registry: Registry) -> str:
        with pytest.raises(NightError, match="under way already") as refused:
            hold(settings, Link(registry, lambda _: "running"), [])
        problems.append(str(refused.value))
        registry.end(1, "kept", "why", {})
        return "running"

    hold(settings, Link(registry, try_another), [])
    assert len(problems) == 1
    assert len(registry.nights()) == 1


def test_a_night_that_goes_on_and_on_is_ended(settings: ServerSettings, registry: Registry) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(night, "_GRACE_S", -4 * 3600.0 + 1)
        patch.setattr(night, "_COMES_UP_S", 0.5)
        record = hold(settings, Link(registry, lambda _: "running"), [])
    assert (record.outcome, "within its window" in record.message) == ("failed", True)


def test_a_run_that_cannot_be_started_ends_the_night(settings: ServerSettings, registry: Registry) -> None:
    link = Link(registry, lambda _: "running")
    link.refuses = "flwr run failed"
    with pytest.raises(NightError, match="flwr run failed"):
        hold(settings, link, [])
    assert registry.night(1).outcome == "failed"


def test_without_cameras_there_is_no_night(settings: ServerSettings) -> None:
    empty = Registry(ServerPaths(settings.state_dir).registry)
    with pytest.raises(NightError, match=r"No camera is enrolled.*sitecam-server code"):
        hold(settings, Link(empty, lambda _: "running"), [])


def test_every_outcome_has_its_exit_code() -> None:
    assert EXIT_CODES == {"published": 0, "deployed": 0, "failed": 1, "kept": 4, "no quorum": 5, "refused": 6}
