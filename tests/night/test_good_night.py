"""Two good nights in a row, and everything that must be true of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.models.verdict import newest_verdict
from appliance.night_status import NightStatus
from appliance.paths import CameraPaths
from tests.fakes.memory_group import MemoryGroup, memory_group
from tests.night.listeners import Outside
from tests.night.running import Held, TinySite

pytestmark = pytest.mark.night

CAMERAS = ("gate-1", "gate-2")


@dataclass(frozen=True)
class Story:
    """What there was to see after two nights, by camera where it is one's own.

    Attributes:
        root: The site's folder.
        nights: Both, as the server tells them.
        pages: What the pages said after each.
        statuses: What the night processes said last.
        exits: Exit codes of the night processes, first night.
        ledgers: What left each camera, both nights.
        supernode_logs: Of the second night.
        wanted: Where night processes wanted to go, other than to their server.
        homes: What lay in the night processes' home folder afterwards.
        left_running: Processes of the site once it was closed.
        group: The 512 MB in which gate-1's day and nights were; None where this machine can't make such a group.
    """

    root: Path
    nights: tuple[Held, Held]
    pages: tuple[dict[str, Any], dict[str, Any]]
    statuses: dict[str, NightStatus]
    exits: list[int | None]
    ledgers: dict[str, list[dict[str, Any]]]
    supernode_logs: dict[str, str]
    wanted: list[str]
    homes: list[str]
    left_running: list[str]
    group: MemoryGroup | None


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[Story]:
    with memory_group(512 * 2**20) as group:
        yield held_nights(tmp_path_factory, tiny_backbone, group)


def held_nights(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes, group: MemoryGroup | None) -> Story:
    root = tmp_path_factory.mktemp("good")
    home = tmp_path_factory.mktemp("home")
    site = TinySite(root, tiny_backbone)
    if group is not None:
        site.programs.before = lambda name: group.before() if CAMERAS[0] in name else ()
    with pytest.MonkeyPatch.context() as patch, Outside() as outside, site:
        for camera in site.cameras:
            site.start_camera(camera)
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
            patch.setenv(name, outside.url)  # whoever phones home, phones this
        patch.setenv("HOME", str(home))
        one = site.hold_night()
        exits = [site.finish_night(camera) for camera in site.cameras]
        pages = {camera.name: site.page(camera) for camera in site.cameras}
        two = site.hold_night("--json")
        seen = {
            "pages": (pages, {camera.name: site.page(camera) for camera in site.cameras}),
            "statuses": {camera.name: site.status(camera) for camera in site.cameras},
            "ledgers": {camera.name: site.ledger(camera) for camera in site.cameras},
            "supernode_logs": {
                camera.name: (CameraPaths(camera.state).flower / "supernode.log").read_text() for camera in site.cameras
            },
        }
    left = site.running()
    site.kill_what_is_left()
    homes = [str(path.relative_to(home)) for path in home.rglob("*")]
    return Story(
        root=root,
        nights=(one, two),
        exits=exits,
        wanted=outside.wanted,
        homes=homes,
        left_running=left,
        group=group,
        **seen,  # type: ignore[arg-type]  # each under its own name
    )


def paths(story: Story, camera: str) -> CameraPaths:
    return CameraPaths(story.root / camera)


def test_both_nights_publish(story: Story) -> None:
    for night, version in zip(story.nights, (2, 3), strict=True):
        assert (night.exit_code, night.outcome) == (0, "published"), night.events
        assert night.message == f"Version {version} runs on 2 of 2 cameras"


def test_both_cameras_run_the_new_version_and_their_pages_say_so(story: Story) -> None:
    for pages, version in zip(story.pages, (2, 3), strict=True):
        assert {name: page["model"]["version"] for name, page in pages.items()} == dict.fromkeys(CAMERAS, version)
        for page in pages.values():
            assert page["decision"]["version"] == version
            assert page["night"]["phase"] == "done"
            assert (page["last_verdict"]["version"], page["last_verdict"]["accepted"]) == (version, True)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_new_version_is_the_one_that_starts_after_a_power_cut(story: Story, camera: str) -> None:
    shelf = Shelf(
        paths(story, camera).models, load_public_key((paths(story, camera).fleet / "signing.pem").read_bytes())
    )
    assert (shelf.current, shelf.previous, shelf.offered) == (3, 2, None)
    verdict = newest_verdict(shelf.root)
    assert verdict is not None
    assert (verdict.version, verdict.accepted) == (3, True)


def test_every_camera_accepts_and_says_what_the_swap_cost(story: Story) -> None:
    for night in story.nights:
        assert set(night.verdicts) == set(CAMERAS)
        for verdict in night.verdicts.values():
            assert verdict is not None
            assert verdict.accepted, verdict.reason
            assert verdict.swap is not None
            assert verdict.swap.longest_gap_ms > 0


def test_accuracy_rises_everywhere(story: Story) -> None:
    figures = story.nights[0].figures
    assert figures["server"]["accuracy_after"] > figures["server"]["accuracy_before"]
    assert figures["server"]["accuracy_after"] >= 0.9
    for camera in CAMERAS:
        assert figures["cameras"][camera]["accuracy_after"] > figures["cameras"][camera]["accuracy_before"]


def test_night_processes_end_by_themselves_with_0(story: Story) -> None:
    assert story.exits == [0, 0]
    assert {status.phase for status in story.statuses.values()} == {"done"}


def test_a_round_printed_as_json_is_nothing_but_json(story: Story) -> None:
    body = json.loads(story.nights[1].printed)
    assert body["outcome"] == "published"
    assert set(body["verdicts"]) == set(CAMERAS)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_ledger_lists_every_reply_and_the_bytes_of_the_night(story: Story, camera: str) -> None:
    kinds = [line["kind"] for line in story.ledgers[camera]]
    first_night = ["query.status", "query.means", "train", "evaluate", "query.deploy", "query.close", "total"]
    assert kinds[:7] == first_night  # a fleet's first night begins from class means
    canary = ["query.deploy"] * (kinds.count("query.deploy") - 2)  # one camera tried the second night's version first
    assert kinds[7:] == ["query.status", "train", "evaluate", *canary, "query.deploy", "query.close", "total"]
    said = re.findall(r"Sending: (\S+) message", story.supernode_logs[camera])
    assert said == kinds[7:-1]  # Flower's own account of the second night
    for total in (line for line in story.ledgers[camera] if line["kind"] == "total"):
        assert total["up_bytes"] > 0
        assert total["down_bytes"] > 0


def test_nobody_phones_home(story: Story) -> None:
    assert story.wanted == []


def test_nothing_is_written_into_the_home_folder(story: Story) -> None:
    assert story.homes == []


def test_nothing_is_left_running(story: Story) -> None:
    assert story.left_running == []


def test_a_board_of_512_mb_is_enough_for_a_camera_s_day_and_nights(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    if story.group is None:
        pytest.skip("no control group with a memory limit can be made here")
    with capsys.disabled():
        print(f"\ngate-1, a day and two nights: {story.group.text()}")
    assert story.group.killed == 0
    assert {"camera", "impulse", "night", "supernode"} <= set(story.group.at_peak)
    assert story.group.peak_pss_bytes < story.group.limit_bytes
