"""Restoring on the same machine and on a new one; what doesn't fit changes nothing, what doesn't work goes back."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import codes, restoring
from appliance.installing.backup import backup
from appliance.installing.exchange import can_exchange, exchange
from appliance.installing.layout import Layout
from appliance.installing.restore import restore
from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore, NewFrame
from tests.fakes.debian import FakeDebian
from tests.fakes.installed import SETTINGS, files_below, installed, open_to_all
from tests.fakes.pictures import encoded, scene
from tests.fakes.store_writer import NoVersions

_NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
_PROJECT = Path(__file__).resolve().parents[3]

Machine = tuple[Layout, FakeDebian]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power cut comes here: nothing need reach the disk."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def old(tmp_path: Path) -> Machine:
    """The camera that is backed up."""
    layout, machine = installed(tmp_path / "old", "camera")
    state = layout.state("camera")
    (state / "keys").mkdir()
    (state / "keys/node.key").write_bytes(b"the old one's")
    (state / "keys/node.key").chmod(0o600)
    (state / "which").write_bytes(b"restored")
    (layout.settings / "mqtt.password").write_bytes(b"hush")
    (layout.settings / "mqtt.password").chmod(0o600)
    return layout, machine


@pytest.fixture
def new(tmp_path: Path) -> Machine:
    """Another camera, just installed."""
    layout, machine = installed(tmp_path / "new", "camera")
    (layout.state("camera") / "which").write_bytes(b"present")
    layout.settings_file("camera").write_text('[camera]\nname = "raspberrypi"\n')
    return layout, machine


@pytest.fixture
def file(old: Machine, tmp_path: Path) -> Path:
    backup(*old, tmp_path / "file.tar")
    return tmp_path / "file.tar"


def bring(machine: Machine, file: Path, step: Callable[[str], None] = lambda _: None) -> None:
    restore(*machine, file, fetch=machine[1].fetch, pause=lambda _: None, step=step)


def test_a_new_pi_becomes_the_one_that_was_backed_up(old: Machine, new: Machine, file: Path) -> None:
    layout, machine = new
    bring(new, file)
    state = layout.state("camera")
    assert files_below(state) == files_below(old[0].state("camera"))
    assert stat.S_IMODE((state / "keys/node.key").stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state, state / "keys")} == {0o700}
    assert layout.settings_file("camera").read_text() == SETTINGS["camera"]
    assert stat.S_IMODE(layout.settings_file("camera").stat().st_mode) == 0o640
    assert stat.S_IMODE((layout.settings / "mqtt.password").stat().st_mode) == 0o600
    (kept,) = layout.settings.glob("sitecam.toml.old-*")
    assert "raspberrypi" in kept.read_text()
    assert [path.name for path in state.parent.iterdir()] == ["sitecam"]
    assert not (layout.opt / "restoring.json").exists()
    verbs = [command[1] for command in machine.commands if command[0] == "systemctl"]
    assert verbs.index("stop") < verbs.index("start")
    assert "sitecam-camera.service" in machine.active
    said = " ".join(machine.said)
    assert "two with one key are one camera" in said
    assert f".old-{kept.name.rpartition('.old-')[2]}." in said


def test_a_restored_store_has_what_the_original_had(old: Machine, new: Machine, tmp_path: Path) -> None:
    with FrameStore(old[0].state("camera") / "store") as store:
        store.add_all(
            [
                NewFrame(encoded(scene(number)), _NOW + timedelta(minutes=number), "live", ("head", None)[number % 2])
                for number in range(8)
            ]
        )
        expected = [(frame, store.jpeg(frame.id)) for frame in store.frames(labelled_only=False)]
        backup(*old, tmp_path / "live.tar")  # while it is open
    bring(new, tmp_path / "live.tar")
    with FrameStore(new[0].state("camera") / "store") as store:
        assert [(frame, store.jpeg(frame.id)) for frame in store.frames(labelled_only=False)] == expected
        assert store.sweep() == 0
        store.label(expected[1][0].id, "hardhat", by="Ada")


def test_a_deletion_that_was_cut_off_before_the_backup_is_finished_after_the_restore(
    old: Machine, new: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FrameStore(old[0].state("camera") / "store") as store:
        added = store.add_all(
            [NewFrame(encoded(scene(number)), _NOW + timedelta(minutes=number), "live") for number in range(3)]
        )
        with monkeypatch.context() as cut:
            cut.setattr(Deleter, "_carry_out", lambda *_: None)  # the power went
            Deleter(store, NoVersions()).frames([added[0].frame.id], by="Ada")  # type: ignore[arg-type]  # no versions
    backup(*old, tmp_path / "cut.tar")
    bring(new, tmp_path / "cut.tar")
    state = new[0].state("camera")
    with FrameStore(state / "store") as store:
        Deleter(store, NoVersions()).finish()  # type: ignore[arg-type]  # as every start of a camera does
        assert Deleter(store, NoVersions()).done()[0].done  # type: ignore[arg-type]
        assert len(store.frames(labelled_only=False)) == 2
    assert len(list((state / "store/frames").rglob("*.jpg"))) == 2


def test_a_backup_with_one_changed_bit_changes_nothing(new: Machine, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"the old one's")] ^= 1
    file.write_bytes(data)
    before = files_below(new[0].root)
    with pytest.raises(InstallError, match="SHA-256") as error:
        bring(new, file)
    assert error.value.exit_code == codes.BAD_ARCHIVE
    assert files_below(new[0].root) == before
    assert new[1].commands == []


def test_a_backup_that_changes_between_check_and_unpacking_changes_nothing(
    new: Machine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(*_: object) -> bool:
        data = bytearray(file.read_bytes())
        data[data.index(b"the old one's")] ^= 1
        with file.open("r+b") as same:
            same.write(data)
        return True

    monkeypatch.setattr("appliance.installing.restore.can_exchange", swap)
    before = files_below(new[0].root)
    with pytest.raises(InstallError, match="SHA-256"):
        bring(new, file)
    assert files_below(new[0].root) == before
    assert [path.name for path in new[0].state("camera").parent.iterdir()] == ["sitecam"]


def test_a_role_that_is_not_installed_is_named_with_its_command(tmp_path: Path, new: Machine) -> None:
    other = installed(tmp_path / "both", "camera", "server")
    backup(*other, tmp_path / "both.tar")
    before = files_below(new[0].root)
    with pytest.raises(InstallError, match=r"sudo \./install\.sh server") as error:
        bring(new, tmp_path / "both.tar")
    assert error.value.exit_code == codes.REFUSED
    assert files_below(new[0].root) == before


def test_a_camera_that_is_being_forgotten_is_not_saved_from_it(new: Machine, file: Path) -> None:
    (new[0].state("camera") / "forgetting.json").write_text("{}")
    with pytest.raises(InstallError, match="being forgotten"):
        bring(new, file)


def test_a_backup_of_a_newer_sitecam_is_refused(tmp_path: Path, file: Path) -> None:
    older = installed(tmp_path / "older", "camera", version="0.0.9")
    with pytest.raises(InstallError, match="upgrade"):
        bring(older, file)


@pytest.mark.parametrize(
    ("patched", "answer", "said"),
    [
        ("appliance.installing.restore.shutil.disk_usage", type("Usage", (), {"free": 1 << 20}), "MB left"),
        ("appliance.installing.restore.can_exchange", False, "can't exchange"),
    ],
)
def test_a_disk_that_cannot_take_it_is_said_before_anything_is_touched(
    new: Machine, file: Path, monkeypatch: pytest.MonkeyPatch, patched: str, answer: object, said: str
) -> None:
    monkeypatch.setattr(patched, lambda _: answer)
    before = files_below(new[0].root)
    with pytest.raises(InstallError, match=said):
        bring(new, file)
    assert files_below(new[0].root) == before


def test_a_file_system_without_the_exchange_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_exchange(tmp_path)
    (tmp_path / "one").mkdir()
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "one", tmp_path / "missing")

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("appliance.installing.exchange.exchange", refuse)
    assert not can_exchange(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_does_not_come_up_goes_back_to_what_was_there(old: Machine, new: Machine, tmp_path: Path) -> None:
    layout, machine = new
    (old[0].state("camera") / "broken").write_bytes(b"")
    backup(*old, tmp_path / "broken.tar")
    machine.broken = lambda _: (layout.state("camera") / "broken").exists()
    before = files_below(layout.state("camera")), files_below(layout.settings)
    with pytest.raises(InstallError, match="What was here before runs again") as error:
        bring(new, tmp_path / "broken.tar")
    assert error.value.exit_code == codes.WENT_BACK
    assert (files_below(layout.state("camera")), files_below(layout.settings)) == before
    assert "sitecam-camera.service" in machine.active
    assert [path.name for path in layout.state("camera").parent.iterdir()] == ["sitecam"]


def test_a_disk_that_fails_while_swapping_goes_back(new: Machine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, machine = new
    real = os.link

    def fail(*_: object) -> None:
        monkeypatch.setattr(os, "link", real)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("appliance.installing.restoring.os.link", fail)
    before = files_below(layout.state("camera")), files_below(layout.settings)
    with pytest.raises(InstallError, match="Input/output error"):
        bring(new, file)
    assert (files_below(layout.state("camera")), files_below(layout.settings)) == before
    assert "sitecam-camera.service" in machine.active


def test_settings_that_are_the_same_are_left_alone(old: Machine, file: Path) -> None:
    layout, _ = old
    (layout.state("camera") / "which").write_bytes(b"spoilt since")
    before = files_below(layout.settings)
    bring(old, file)
    assert (layout.state("camera") / "which").read_bytes() == b"restored"
    assert files_below(layout.settings) == before


def test_a_journal_that_cannot_be_read_stops_everything(new: Machine, file: Path) -> None:
    (new[0].opt / "restoring.json").write_text("half")
    with pytest.raises(InstallError, match="can't be read"):
        bring(new, file)
    assert restoring.beside(new[0].state("camera")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_restored_belongs_to_the_user_of_the_machine_that_it_comes_to(
    old: Machine, new: Machine, tmp_path: Path
) -> None:
    open_to_all(tmp_path)
    for layout, number in ((old[0], 12345), (new[0], 23456)):
        for path in (layout.state("camera"), *layout.state("camera").rglob("*")):
            os.chown(path, number, number)
    os.chown(old[0].settings_file("camera"), 0, 12345)
    os.chown(old[0].settings / "mqtt.password", 12345, 12345)
    backup(*old, tmp_path / "file.tar")
    bring(new, tmp_path / "file.tar")
    layout = new[0]
    state = layout.state("camera")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (state, *state.rglob("*"))} == {(23456, 23456)}
    settings, password = layout.settings_file("camera").stat(), (layout.settings / "mqtt.password").stat()
    assert (settings.st_uid, settings.st_gid) == (0, 23456)
    assert (password.st_uid, password.st_gid) == (23456, 23456)


@pytest.mark.parametrize("broken", [False, True])
def test_a_kill_at_any_step_leaves_the_old_state_or_the_restored_one(
    old: Machine, new: Machine, tmp_path: Path, *, broken: bool
) -> None:
    if broken:
        (old[0].state("camera") / "broken").write_bytes(b"")
    backup(*old, tmp_path / "file.tar")
    (tmp_path / "work").mkdir()
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fakes.restore_cut",
            str(new[0].root),
            str(tmp_path / "file.tar"),
            str(tmp_path / "work"),
        ],
        cwd=_PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    reports = [json.loads(line) for line in ended.stdout.splitlines()]
    cuts = [report["cut"] for report in reports]
    assert {"unpacking", "unpacked", "swapping", "exchanged camera", "kept camera", "replaced sitecam.toml"} <= set(
        cuts
    )
    assert ("undoing" in cuts, "back camera" in cuts) == (broken, broken)
    present, restored = (hexed(machine[0].state("camera")) for machine in (new, old))
    settings = {"present": hexed(new[0].settings), "restored": hexed(old[0].settings)}
    seen = set()
    for report in reports:
        came = "present" if report["state"] == present else "restored"
        seen.add(came)
        assert report["always_there"], report["cut"]
        assert report["state"] in (present, restored), report["cut"]
        now = {name: text for name, text in report["settings"].items() if ".old-" not in name}
        assert now == settings[came], report["cut"]
        assert report["beside"] == ["sitecam"], report["cut"]
        assert not report["journal"]
        assert report["runs"], report["cut"]
        if not broken:
            early = cuts.index(report["cut"]) < cuts.index("swapping")
            assert came == ("present" if early and report["cut"] else "restored"), report["cut"]
    assert seen == ({"present"} if broken else {"present", "restored"})


def hexed(folder: Path) -> dict[str, str]:
    return {name: data.hex() for name, data in files_below(folder).items()}
