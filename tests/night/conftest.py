"""One night on real parts that several files look at: what its cameras sent, and what its server kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from tests.night.listeners import Recorder
from tests.night.running import Held, TinySite

FEW = 3  # frames of "nobody" that gate-1 keeps: fewer than a class mean needs


@dataclass(frozen=True)
class Sent:
    """What one camera sent.

    Attributes:
        paths: Its state folder.
        streams: Decrypted, connection by connection.
        others: The other camera's.
        up_bytes: As TCP carried them.
        down_bytes: Likewise, the other way.
        ledger: Its own account.
    """

    paths: CameraPaths
    streams: list[bytes]
    others: list[bytes]
    up_bytes: int
    down_bytes: int
    ledger: list[dict[str, Any]]


@dataclass(frozen=True)
class RecordedNight:
    """A night that was listened to.

    Attributes:
        held: As the server tells it.
        sent: By camera.
        on_disk: When -> path -> all bytes of every file in the server's state folder.
    """

    held: Held
    sent: Mapping[str, Sent]
    on_disk: Mapping[str, Mapping[Path, bytes]]


def everything_in(folder: Path) -> dict[Path, bytes]:
    """Every file's content, whatever it is; of those that are there as long as it takes to read them."""
    found = {}
    for path in folder.rglob("*"):
        try:
            found[path.relative_to(folder)] = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue
    return found


@pytest.fixture(scope="session")
def recorded_night(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> RecordedNight:
    """A fleet's first night, exact start included, heard through a proxy per camera."""
    with TinySite(tmp_path_factory.mktemp("recorded"), tiny_backbone) as site:
        site.write_rules(rounds=2, exact_start=True, smoothing=0.2)  # so that every round has something to learn
        first, second = site.cameras
        with FrameStore(CameraPaths(first.state).store) as store:
            nobody = [frame for frame in store.frames(split="train") if frame.label == "nobody"]
            for frame in nobody[FEW:]:
                store.take_back(frame.id)
        for camera in site.cameras:
            site.start_camera(camera)
        port = site.settings.superlink.port
        with (
            Recorder(site.paths, port) as one,
            Recorder(site.paths, port) as two,
            site.reached_at(first, one.port),
            site.reached_at(second, two.port),
        ):
            for camera in site.cameras:
                site.start_night(camera)
            round_ = site.start_round()
            site.wait_for_event("Round 1 of 2")
            midst = everything_in(site.paths.root)
            held = site.finish_round(round_)
            for camera in site.cameras:
                site.finish_night(camera)
            after = everything_in(site.paths.root)
            sent = {
                camera.name: Sent(
                    CameraPaths(camera.state),
                    recorder.streams,
                    other.streams,
                    recorder.up_bytes,
                    recorder.down_bytes,
                    site.ledger(camera),
                )
                for camera, recorder, other in zip(site.cameras, (one, two), (two, one), strict=True)
            }
        server = site.paths.root
    site.kill_what_is_left()
    return RecordedNight(held, sent, {"midst": midst, "after": after, "stopped": everything_in(server)})
