"""No single camera's update lies on the server's disk: not after a night, not in its midst, not in any file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from appliance.models.head import Head
from tests.night.conftest import RecordedNight, everything_in
from tests.night.listeners import Recorder
from tests.night.recording import arrays_of, pieces, sent_messages
from tests.night.running import TinySite, as_flower_ships_it

pytestmark = pytest.mark.night


def updates(streams: Iterable[bytes], others: Iterable[bytes] = ()) -> dict[str, bytes]:
    """What a camera had learned, and the sums that it gave away: every such array, by kind, number and name."""
    return {
        f"{kind} {number} {name}": data
        for number, (kind, content) in enumerate(sent_messages(streams, others))
        for name, data in arrays_of(content).items()
        if kind == "train" or name.endswith("sums")
    }


def found_in(files: Mapping[Path, bytes], arrays: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """(file, array) wherever 64 bytes of an array's numbers stand in a file, as they are or in base64."""
    return {
        (str(path), name)
        for name, array in arrays.items()
        for piece in pieces(array)
        for path, content in files.items()
        if piece in content
    }


@pytest.mark.parametrize("when", ["midst", "after", "stopped"])
@pytest.mark.parametrize("camera", ["gate-1", "gate-2"])
def test_no_single_update_is_on_the_servers_disk(recorded_night: RecordedNight, camera: str, when: str) -> None:
    files = recorded_night.on_disk[when]
    assert Path("flower/superlink.sqlite") in files
    assert Path("registry.sqlite") in files
    sent = recorded_night.sent[camera]
    arrays = updates(sent.streams, sent.others)
    assert len(arrays) == 5  # sums, and kernel and bias in either round
    listed = {array["sha256"] for line in sent.ledger for array in line.get("arrays", [])}
    assert {hashlib.sha256(array).hexdigest() for array in arrays.values()} <= listed
    assert found_in(files, arrays) == set()


def test_the_average_of_both_is_found_there(recorded_night: RecordedNight) -> None:
    """Else the search could not find anything: the published head lies there, in its part."""
    files = recorded_night.on_disk["stopped"]
    heads = [data for path, data in files.items() if path.parent.name == "parts" and data.startswith(b"PK")]
    kernels = {f"head {number}": Head.from_bytes(data).arrays[0].tobytes() for number, data in enumerate(heads)}
    assert len(found_in(files, kernels)) >= 2


def test_flowers_own_superlink_keeps_it(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> None:
    """Else our process around it would not be needed."""
    root = tmp_path_factory.mktemp("shipped")
    with as_flower_ships_it(), TinySite(root, tiny_backbone, cameras=1) as site:
        site.write_rules(quorum=1, verdict_deadline_s=1)
        (camera,) = site.cameras
        with Recorder(site.paths, site.settings.superlink.port) as recorder, site.reached_at(camera, recorder.port):
            site.start_night(camera)
            round_ = site.start_round()
            site.wait_for_event("Round 1 of 1")
            arrays = updates(recorder.streams)
            files = everything_in(site.paths.flower)
            round_.kill()
            round_.communicate()
            site.stop_night(camera)
    site.kill_what_is_left()
    assert arrays
    kept = found_in(files, arrays)
    assert {Path(path).name.partition("-")[0] for path, _ in kept} == {"superlink.sqlite"}, kept
