"""Starting a night's run and following it, with a SuperLink that only pretends."""

from __future__ import annotations

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

    def prepare(self) -> None: ...

    def start_run(self, night: int) -> int:
        self.night = night
        if self.refuses:
            raise NightError(self.refuses)
        self._registry.note(night, "it began")
        return 1

    def run_status(self, _: int) -> str:
        return self._on_look(self._registry)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    monkeypatch.setattr(night, "_POLL_S", 0.01)
    monkeypatch.setattr(night, "_LOOK_S", 0.05)
    settings = load(write_server_settings(tmp_path / "server.toml"))
    settings.state_dir.mkdir()
    return settings


@pytest.fixture
def registry(settings: ServerSettings) -> Registry:
    registry = Registry(ServerPaths(settings.state_dir).registry)
    registry.enrol(7, "gate", "key")
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


def test_a_server_app_that_died_ends_the_night(settings: ServerSettings, registry: Registry) -> None:
    record = hold(settings, Link(registry, lambda _: "finished:failed"), [])
    assert record.outcome == "failed"
    assert "ended (finished:failed) without an outcome" in record.message


def test_a_run_that_cannot_be_started_ends_the_night(settings: ServerSettings, registry: Registry) -> None:
    link = Link(registry, lambda _: "running")
    link.refuses = "flwr run failed"
    with pytest.raises(NightError, match="flwr run failed"):
        hold(settings, link, [])
    assert registry.night(1).outcome == "failed"


def test_a_superlink_that_answers_no_more_ends_the_night(settings: ServerSettings, registry: Registry) -> None:
    def dead(_: Registry) -> str:
        raise NightError("flwr ls failed")

    with pytest.raises(NightError, match="flwr ls failed"):
        hold(settings, Link(registry, dead), [])
    assert registry.night(1).outcome == "failed"


def test_without_cameras_there_is_no_night(settings: ServerSettings) -> None:
    empty = Registry(ServerPaths(settings.state_dir).registry)
    with pytest.raises(NightError, match=r"No camera is enrolled.*sitecam-server enrol"):
        hold(settings, Link(empty, lambda _: "running"), [])


def test_every_outcome_has_an_exit_code_of_its_own() -> None:
    assert EXIT_CODES == {"published": 0, "failed": 1, "kept": 4, "no quorum": 5}
