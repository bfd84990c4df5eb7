"""A backup of a machine whose services go on writing, and whose people go on deleting."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import backup as module
from appliance.installing import codes
from appliance.installing.archive import ArchiveWriter, contents, open_archive, read_manifest
from appliance.installing.backup import backup
from appliance.installing.layout import Layout
from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore, NewFrame
from tests.fakes.debian import FakeDebian
from tests.fakes.installed import installed, open_to_all
from tests.fakes.pictures import encoded, scene
from tests.fakes.store_writer import NoVersions

_NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


@pytest.fixture
def camera(tmp_path: Path) -> tuple[Layout, FakeDebian]:
    layout, machine = installed(tmp_path / "machine", "camera")
    state = layout.state("camera")
    with FrameStore(state / "store") as store:
        store.add_all([frame(number) for number in range(6)])
    for name, data in {
        "keys/node.key": b"secret",
        "models/parts/0a": b"part",
        "models/current": b"1\n",
        "models/versions/1/manifest.json": b"{}",
        "models/versions/1/impulse.eim": b"made again",
        "ledger.jsonl": b"{}\n",
        "night.json": b"{}",
        "night.json.tmp": b"half",
        ".night.json.0a0a0a0a.tmp": b"half",
        "status.json": b"{}",
        "reboot-request.json": b"{}",
        "flower/supernode.log": b"log",
        "store/frames/00/" + "0" * 32 + ".small.jpg": b"made again",
        "store/incoming/x/a.jpg": b"half",
        "something a later release left": b"?",
    }.items():
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (state / "link").symlink_to("/etc")
    (layout.settings / "mqtt.password").write_bytes(b"hush")
    (layout.settings / "sitecam.toml.new").write_bytes(b"defaults")
    return layout, machine


def frame(number: int) -> NewFrame:
    label = ("head", "hardhat")[number % 2]
    return NewFrame(encoded(scene(number)), _NOW + timedelta(minutes=number), "live", label, "Ada")


def read(file: Path) -> dict[str, bytes]:
    with open_archive(file) as archive:
        manifest = read_manifest(archive)
        return {entry.path: b"".join(content) for entry, content in contents(archive, manifest)}


def database(data: bytes, folder: Path) -> sqlite3.Connection:
    path = folder / "copy.sqlite"
    path.write_bytes(data)
    return sqlite3.connect(path)


def test_a_backup_has_settings_keys_frames_and_models_and_no_caches(
    camera: tuple[Layout, FakeDebian], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, machine = camera
    (tmp_path / "a").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(layout.state("camera"))  # a socket's path may not be long
        listener.bind("socket")
        backup(layout, machine, tmp_path / "a/file.tar")
    files = read(tmp_path / "a/file.tar")
    pictures = {name for name in files if name.startswith("camera/store/frames/")}
    assert len(pictures) == 6
    assert set(files) - pictures == {
        "settings/sitecam.toml",
        "settings/mqtt.password",
        "camera/keys/node.key",
        "camera/models/parts/0a",
        "camera/models/current",
        "camera/models/versions/1/manifest.json",
        "camera/ledger.jsonl",
        "camera/night.json",
        "camera/something a later release left",
        "camera/store/frames.sqlite",
        "camera/store/features.sqlite",
    }
    found = (tmp_path / "a/file.tar").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file.tar"]
    said = " ".join(machine.said)
    assert "6 pictures and 2 databases" in said
    assert "private keys" in said
    assert machine.commands == []  # services run on


def test_both_roles_of_a_machine_go_into_one_file(tmp_path: Path) -> None:
    layout, machine = installed(tmp_path / "machine", "camera", "server")
    server = layout.state("server")
    for name in ("registry.sqlite", "flower/superlink.sqlite"):
        (server / name).parent.mkdir(exist_ok=True)
        with sqlite3.connect(server / name) as made:
            made.execute("CREATE TABLE rows (what TEXT)")
        made.close()
    (server / "flower/superlink.log").write_bytes(b"log")
    (server / "ca.pem").write_bytes(b"public")
    backup(layout, machine, tmp_path / "file.tar")
    assert list(read(tmp_path / "file.tar")) == [
        "settings/sitecam-server.toml",
        "settings/sitecam.toml",
        "server/ca.pem",
        "server/registry.sqlite",  # before what the SuperLink knows: it knows a camera first
        "server/flower/superlink.sqlite",
    ]


def test_a_database_is_whole_while_somebody_writes_into_it(camera: tuple[Layout, FakeDebian], tmp_path: Path) -> None:
    layout, machine = camera
    path = layout.state("camera") / "pairs.sqlite"
    writer = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE pairs (number INTEGER, filler BLOB)")
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            writer.execute("BEGIN")
            writer.executemany("INSERT INTO pairs VALUES (?, ?)", [(number, os.urandom(500))] * 2)
            writer.execute("COMMIT")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            backup(layout, machine, tmp_path / f"file{number}.tar")
    finally:
        ended.set()
        thread.join()
        writer.close()
    for number in range(3):
        copy = database(read(tmp_path / f"file{number}.tar")["camera/pairs.sqlite"], tmp_path)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute(
            "SELECT COUNT(*) FROM (SELECT 1 FROM pairs GROUP BY number HAVING COUNT(*) != 2)"
        ).fetchone() == (0,)
        copy.close()


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """Have something done once, right before or after a step of the backup."""
    done: set[str] = set()

    def arrange(when: str, act: Callable[[], None]) -> None:
        order, _, name = when.partition(" ")
        original = getattr(module._Backup, name)

        def step(self: object, *arguments: object) -> object:
            if order == "before" and when not in done:
                done.add(when)
                act()
            result = original(self, *arguments)
            if order == "after" and when not in done:
                done.add(when)
                act()
            return result

        monkeypatch.setattr(module._Backup, name, step)

    yield arrange
    assert done


@pytest.mark.parametrize("when", ["after _add_files", "after _blank_gone", "after _add_databases"])
def test_what_is_deleted_while_the_backup_runs_is_not_in_it(
    camera: tuple[Layout, FakeDebian],
    tmp_path: Path,
    when: str,
    meddle: Callable[[str, Callable[[], None]], None],
) -> None:
    layout, machine = camera
    gone: list[tuple[str, bytes]] = []

    def delete() -> None:
        with FrameStore(layout.state("camera") / "store") as store:
            victim = store.frames()[2].id
            gone.append((victim, store.jpeg(victim)))
            Deleter(store, NoVersions()).frames([victim], by="Ada")  # type: ignore[arg-type]  # has no version to tell of

    meddle(when, delete)
    backup(layout, machine, tmp_path / "file.tar")
    ((victim, jpeg),) = gone
    assert jpeg not in (tmp_path / "file.tar").read_bytes()
    assert victim.encode() not in (tmp_path / "file.tar").read_bytes()
    files = read(tmp_path / "file.tar")
    copy = database(files["camera/store/frames.sqlite"], tmp_path)
    assert copy.execute("SELECT COUNT(*) FROM frames").fetchone() == (5,)
    copy.close()


def test_a_frame_that_comes_while_the_backup_runs_has_its_picture_if_it_has_its_row(
    camera: tuple[Layout, FakeDebian], tmp_path: Path, meddle: Callable[[str, Callable[[], None]], None]
) -> None:
    layout, machine = camera

    def add() -> None:
        with FrameStore(layout.state("camera") / "store") as store:
            store.add_all([frame(20)])

    meddle("before _blank_gone", add)
    backup(layout, machine, tmp_path / "file.tar")
    files = read(tmp_path / "file.tar")
    copy = database(files["camera/store/frames.sqlite"], tmp_path)
    ids = [row[0] for row in copy.execute("SELECT id FROM frames")]
    copy.close()
    assert len(ids) == 7
    assert all(f"camera/store/frames/{each[:2]}/{each}.jpg" in files for each in ids)


def test_a_camera_that_is_being_forgotten_is_not_backed_up(
    camera: tuple[Layout, FakeDebian], tmp_path: Path, meddle: Callable[[str, Callable[[], None]], None]
) -> None:
    layout, machine = camera

    def forget() -> None:
        (layout.state("camera") / "forgotten.json").write_bytes(b"{}")

    meddle("after _add_databases", forget)
    with pytest.raises(InstallError, match="forgotten meanwhile"):
        backup(layout, machine, tmp_path / "file.tar")
    (layout.state("camera") / "forgetting.json").write_bytes(b"{}")
    with pytest.raises(InstallError, match="being forgotten"):
        backup(layout, machine, tmp_path / "file.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["machine"]


def test_a_disk_that_fills_leaves_nothing_behind(
    camera: tuple[Layout, FakeDebian], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, machine = camera

    def full(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArchiveWriter, "add", full)
    with pytest.raises(InstallError, match="No space left"):
        backup(layout, machine, tmp_path / "file.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["machine"]


def test_a_disk_with_too_little_room_is_said_before_anything_is_written(
    camera: tuple[Layout, FakeDebian], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, machine = camera
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("appliance.installing.backup.shutil.disk_usage", lambda _: usage)
    with pytest.raises(InstallError, match="MB left") as error:
        backup(layout, machine, tmp_path / "file.tar")
    assert error.value.exit_code == codes.REFUSED


def test_what_a_killed_backup_left_goes_with_the_next(camera: tuple[Layout, FakeDebian], tmp_path: Path) -> None:
    layout, machine = camera
    (tmp_path / ".file.tar.0a1b2c3d.tmp").write_bytes(b"half")
    (tmp_path / ".file.tar.ab_cd012.tmp").mkdir()
    (tmp_path / ".file.tar.other").write_bytes(b"somebody's")
    backup(layout, machine, tmp_path / "file.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.tar.other", "file.tar", "machine"]


@pytest.mark.parametrize(
    "name", ["var/lib/sitecam/file.tar", "var/lib/sitecam/store/f", "etc/sitecam/f", "opt/sitecam/f"]
)
def test_a_backup_into_sitecams_own_folders_is_refused(camera: tuple[Layout, FakeDebian], name: str) -> None:
    layout, machine = camera
    with pytest.raises(InstallError, match="belongs to Sitecam") as error:
        backup(layout, machine, layout.root / name)
    assert error.value.exit_code == codes.WRONG_CALL


def test_a_backup_never_replaces_a_file_and_wants_a_folder(camera: tuple[Layout, FakeDebian], tmp_path: Path) -> None:
    layout, machine = camera
    (tmp_path / "there").write_bytes(b"an older backup")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link", "no/folder", "machine"):
        with pytest.raises(InstallError):
            backup(layout, machine, tmp_path / name)
    assert (tmp_path / "there").read_bytes() == b"an older backup"


def test_a_damaged_database_is_an_error_and_not_a_backup(camera: tuple[Layout, FakeDebian], tmp_path: Path) -> None:
    layout, machine = camera
    (layout.state("camera") / "events.sqlite").write_bytes(b"SQLite format 3\0" + b"rubbish" * 200)
    with pytest.raises(InstallError, match=r"events\.sqlite can't be copied"):
        backup(layout, machine, tmp_path / "file.tar")
    assert not (tmp_path / "file.tar").exists()


def test_a_name_that_no_archive_can_hold_is_left_out_and_said(
    camera: tuple[Layout, FakeDebian], tmp_path: Path
) -> None:
    layout, machine = camera
    (layout.state("camera") / os.fsdecode(b"latin-\xe4")).write_bytes(b"?")
    backup(layout, machine, tmp_path / "file.tar")
    assert sum("was left out" in line for line in machine.said) == 1


def test_a_machine_without_sitecam_has_nothing_to_back_up(tmp_path: Path) -> None:
    machine = FakeDebian(tmp_path / "machine")
    with pytest.raises(InstallError, match="isn't installed"):
        backup(Layout(machine.root), machine, tmp_path / "file.tar")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and become somebody else")
def test_root_reads_a_state_folder_with_its_owners_rights_only(
    camera: tuple[Layout, FakeDebian], tmp_path: Path
) -> None:
    layout, machine = camera
    state = layout.state("camera")
    for path in (state, *state.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    open_to_all(tmp_path)
    os.chown(state / "keys/node.key", 0, 0)
    (state / "keys/node.key").chmod(0o600)  # as if a service had got at a file that only root may read
    with pytest.raises(InstallError, match="Permission denied"):
        backup(layout, machine, tmp_path / "file.tar")
    os.chown(state / "keys/node.key", 12345, 12345)
    backup(layout, machine, tmp_path / "file.tar")
    owners = {path.lstat().st_uid for path in state.rglob("*")}
    assert owners == {12345}  # what SQLite makes beside a database too
    assert os.geteuid() == 0
