"""Nights on which something is wrong: it costs whoever it concerns, it is said, and no model is lost.

No bound here is a measure of speed: each only ends a test that hangs.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.fleet import make_node_key
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from server.certificates import make_certificates
from server.paths import ServerPaths
from tests.fakes.processes import alive, family
from tests.night.running import TinySite, night_of, wait_until

pytestmark = pytest.mark.night


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[TinySite]:
    """Two cameras that run; every test leaves them so. Versions rise from test to test."""
    with TinySite(tmp_path_factory.mktemp("bad"), tiny_backbone) as site:
        for camera in site.cameras:
            site.start_camera(camera)
        yield site
    site.kill_what_is_left()


@pytest.fixture(autouse=True)
def _nothing_left_for_the_next_test(site: TinySite) -> Iterator[None]:
    yield
    for camera in site.cameras:
        with contextlib.suppress(StopIteration):  # it ended, as it should have
            os.kill(site.night_pid(camera), signal.SIGTERM)
            site.finish_night(camera)


@contextlib.contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    """A file with other content, for a while."""
    before = path.read_bytes()
    path.write_bytes(data)
    yield
    path.write_bytes(before)


def test_a_night_process_killed_in_mid_round_costs_only_its_own_camera(site: TinySite) -> None:
    site.write_rules(epochs=1000, round_deadline_s=25, verdict_deadline_s=25)
    survivor, victim = site.cameras
    version = site.shelf.current or 0
    for camera in site.cameras:
        site.start_night(camera)
    round_ = site.start_round()
    wait_until(lambda: site.status(victim).phase == "training", what="the victim's training", timeout_s=120)
    its_own = family(site.night_pid(victim))
    assert len(its_own) >= 3, "the night, its SuperNode and its proxy at least"
    site.programs.kill(night_of(victim))
    held = site.finish_round(round_)

    assert (held.exit_code, held.outcome) == (0, "published"), held.events
    assert held.message == f"Version {version + 1} runs on 1 of 2 cameras"
    assert held.verdicts[victim.name] is None
    verdict = held.verdicts[survivor.name]
    assert verdict is not None
    assert verdict.accepted
    assert site.page(survivor)["model"]["version"] == version + 1
    assert any(f"Round 1 goes on without {victim.name}: " in text for text in held.events)
    assert any(text.startswith(f"{victim.name} gave no verdict on version {version + 1}: ") for text in held.events)
    assert site.finish_night(survivor) == 0
    wait_until(lambda: not any(map(alive, its_own)), what="the end of what the killed night had started")
    assert site.page(victim)["model"]["version"] == version  # its live loop never noticed


def test_below_quorum_nothing_is_published_and_who_is_missing_is_named(site: TinySite) -> None:
    site.write_rules(quorum_deadline_s=45)
    present, missing = site.cameras
    version = site.shelf.current
    site.start_night(present)
    wait_until(lambda: len(family(site.night_pid(present))) >= 3, what="its SuperNode")
    held = site.finish_round(site.start_round())
    assert (held.exit_code, held.outcome) == (5, "no quorum"), held.events
    assert missing.name in held.message.split("Missing: ")[1].split(".")[0]
    assert held.verdicts == {}
    assert site.shelf.current == version
    assert site.finish_night(present) == 0


def test_a_camera_without_labels_does_not_train_says_why_and_gets_the_model_all_the_same(site: TinySite) -> None:
    site.write_rules(quorum=1)
    teacher, pupil = site.cameras
    with FrameStore(CameraPaths(pupil.state).store) as store:
        labelled = store.frames(split="train")
        for frame in labelled:
            if frame.label != "head":
                store.take_back(frame.id)
        kept = store.counts()["train"]["head"]
    try:
        for camera in site.cameras:
            site.start_night(camera)
        round_ = site.start_round()
        wait_until(lambda: "Not training tonight" in site.page(pupil)["night"]["message"], what="the page's word")
        assert f"{kept} labelled frames, fewer than the 10" in site.page(pupil)["night"]["message"]
        held = site.finish_round(round_)
    finally:
        with FrameStore(CameraPaths(pupil.state).store) as store:
            for frame in labelled:
                store.label(frame.id, str(frame.label), by="test")
    assert (held.exit_code, held.outcome) == (0, "published"), held.events
    assert any(text.startswith(f"{pupil.name} is here: ") and "fewer than the 10" in text for text in held.events)
    assert held.figures["rounds"][0]["examples"].keys() == {teacher.name}
    verdict = held.verdicts[pupil.name]
    assert verdict is not None
    assert verdict.accepted
    assert site.page(pupil)["model"]["version"] == site.shelf.current
    assert [site.finish_night(camera) for camera in site.cameras] == [0, 0]


def test_a_camera_with_another_fleets_authority_refuses_the_server_and_keeps_its_model(
    site: TinySite, tmp_path: Path
) -> None:
    _, camera = site.cameras
    paths, stranger = CameraPaths(camera.state), ServerPaths(tmp_path / "stranger")
    stranger.root.mkdir()
    make_certificates(stranger, fleet="another", host="127.0.0.1")
    version = site.page(camera)["model"]["version"]
    with replaced(paths.fleet / "ca.pem", stranger.ca_certificate.read_bytes()):
        site.start_night(camera)
        assert site.finish_night(camera) == 1
    status = site.status(camera)
    assert status.phase == "failed"
    assert "this fleet's authority did not sign" in status.message
    assert "enrol this camera again" in status.message
    assert site.page(camera)["model"]["version"] == version


def test_a_camera_whose_key_nobody_registered_is_told_so_and_keeps_its_model(site: TinySite, tmp_path: Path) -> None:
    _, camera = site.cameras
    paths, unknown = CameraPaths(camera.state), CameraPaths(tmp_path / "unknown")
    make_node_key(unknown)
    version = site.page(camera)["model"]["version"]
    with (
        replaced(paths.node_key, unknown.node_key.read_bytes()),
        replaced(paths.node_public_key, unknown.node_public_key.read_bytes()),
    ):
        site.start_night(camera)
        # For two minutes it may be that the server only believes this camera to be there still.
        wait_until(lambda: "doesn't know its key" in site.status(camera).message, what="the reason")
        status = site.status(camera)
        assert status.phase == "waiting"
        assert "The server does not let this camera in yet" in status.message
        assert "sitecam-server code" in status.message
        assert site.page(camera)["night"]["message"] == status.message
        assert site.stop_night(camera) is not None
    assert site.page(camera)["model"]["version"] == version
