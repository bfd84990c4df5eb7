"""Who belongs to the fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StoreError
from server.roster import EnrolledCamera, Roster


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    return Roster(tmp_path / "registry.sqlite")


def test_cameras_come_back_by_name_with_node_ids_of_64_bits(roster: Roster) -> None:
    roster.enrol(2**64 - 1, "yard", "key 1")
    roster.enrol(7, "gate", "key 2")
    assert roster.cameras() == [EnrolledCamera(7, "gate"), EnrolledCamera(2**64 - 1, "yard")]
    assert [camera.public_key for camera in roster.cameras()] == ["key 2", "key 1"]


@pytest.mark.parametrize(("node", "name", "key"), [(7, "new", "new"), (8, "gate", "new"), (8, "new", "key")])
def test_a_name_or_key_is_taken_once(roster: Roster, node: int, name: str, key: str) -> None:
    roster.enrol(7, "gate", "key")
    with pytest.raises(StoreError):
        roster.enrol(node, name, key)
    assert roster.cameras() == [EnrolledCamera(7, "gate")]


def test_a_revoked_camera_frees_its_name_and_never_its_key(roster: Roster) -> None:
    roster.enrol(7, "gate", "key")
    roster.revoke("gate", "stolen")
    assert roster.cameras() == []
    assert [(camera.name, camera.revoked_why) for camera in roster.cameras(revoked=True)] == [("gate", "stolen")]
    with pytest.raises(StoreError):
        roster.enrol(8, "gate", "key")
    roster.enrol(8, "gate", "key 2")
    assert [camera.node_id for camera in roster.cameras()] == [8]


def test_a_name_that_nobody_has_is_answered_with_those_that_are_there(roster: Roster) -> None:
    roster.enrol(7, "gate", "key")
    with pytest.raises(StoreError, match=r"no camera named yard.*It has: gate"):
        roster.revoke("yard", "why")


def test_bad_nights_in_a_row_are_counted_and_a_good_one_ends_them(roster: Roster) -> None:
    roster.enrol(7, "gate", "key")
    assert [roster.count_night("gate", bad=bad) for bad in (True, True, False, True)] == [1, 2, 0, 1]


def test_a_camera_on_hold_is_released_with_a_clean_sheet(roster: Roster) -> None:
    roster.enrol(7, "gate", "key")
    roster.count_night("gate", bad=True)
    roster.hold("gate", "its replies could not be used")
    held = roster.camera("gate")
    assert (bool(held.held_utc), held.held_why) == (True, "its replies could not be used")
    roster.release("gate")
    assert (roster.camera("gate").held_utc, roster.camera("gate").bad_nights) == (None, 0)


def test_the_trail_is_told_from_its_end(roster: Roster) -> None:
    for text in ("a", "b", "c"):
        roster.note("page", text)
    assert [(entry.who, entry.text) for entry in roster.trail(limit=2)] == [("page", "c"), ("page", "b")]
