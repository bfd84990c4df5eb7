"""Another release: healthy, broken, and archives that nobody should trust."""

from __future__ import annotations

import io
import sqlite3
import tarfile
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import codes
from appliance.installing.camera import install_camera
from appliance.installing.layout import Layout
from appliance.installing.roles import build
from appliance.installing.run import Done
from appliance.installing.unpack import unpack
from appliance.installing.upgrade import finish_interrupted, upgrade
from tests.fakes.debian import SURE, FakeDebian, installation, make_source, tree


@pytest.fixture
def both(tmp_path: Path, here: FakeDebian) -> tuple[FakeDebian, Path]:
    """A camera that runs 1.0.0, and the folder of 2.0.0."""
    old = make_source(tmp_path / "old")
    new = make_source(tmp_path / "new", version="2.0.0", units="Description=newer")
    install_camera(installation(here, old), SURE)

    def prepare(_: list[str]) -> None:
        build(installation(here, new), "camera")  # what the new release's own installer does

    here.on["prepare"] = prepare
    return here, new


def running(machine: FakeDebian) -> str:
    return (machine.root / "opt/sitecam/current").readlink().name


def broken(release: Path) -> bool:
    return release.name.startswith("2.0.0")


def test_a_healthy_release_takes_over_and_the_old_one_is_kept(both: tuple[FakeDebian, Path]) -> None:
    machine, new = both
    old = running(machine)
    assert upgrade(installation(machine, new), new) == 0
    assert running(machine).startswith("2.0.0+")
    record = installation(machine, new).record
    assert (record.release, record.previous) == (running(machine), old)
    assert sorted(path.name for path in Layout(machine.root).releases.iterdir()) == sorted([old, running(machine)])
    assert "newer" in (machine.root / "etc/systemd/system/sitecam-camera.service").read_text()
    assert upgrade(installation(machine, new), new) == 0
    assert any("runs here already" in line for line in machine.said)


def test_a_release_that_does_not_come_up_is_left_again(both: tuple[FakeDebian, Path]) -> None:
    machine, new = both
    before = {name: what[1] for name, what in tree(machine.root).items() if not name.startswith("opt")}
    old = running(machine)
    machine.broken = broken
    assert upgrade(installation(machine, new), new) == codes.WENT_BACK
    assert running(machine) == old
    assert "sitecam-camera.service" in machine.active
    assert {name: what[1] for name, what in tree(machine.root).items() if not name.startswith("opt")} == before
    assert installation(machine, new).record.release == old
    assert [path.name for path in Layout(machine.root).releases.iterdir()] == [old]


@pytest.mark.parametrize("answer", [Done(1, "Traceback"), Done(139, ""), Done(2, "{}")])
def test_a_release_whose_doctor_falls_over_is_never_switched_to(both: tuple[FakeDebian, Path], answer: Done) -> None:
    machine, new = both
    old = running(machine)
    machine.failing["doctor --json"] = answer
    assert upgrade(installation(machine, new), new) == codes.WENT_BACK
    assert running(machine) == old


def test_a_release_that_cannot_be_built_touches_nothing_that_runs(both: tuple[FakeDebian, Path]) -> None:
    machine, new = both
    machine.failing["prepare"] = Done(1, "", "no network")
    commands = len(machine.commands)
    with pytest.raises(InstallError, match="no network"):
        upgrade(installation(machine, new), new)
    assert not any("systemctl" in command for command in machine.commands[commands:])
    assert machine.active == {"sitecam-camera.service", "sitecam-night.timer"}


def test_installing_a_newer_folder_over_an_old_release_is_the_same_careful_step(both: tuple[FakeDebian, Path]) -> None:
    machine, new = both
    old = running(machine)
    machine.broken = broken
    with pytest.raises(InstallError) as back:
        install_camera(installation(machine, new), SURE)
    assert back.value.exit_code == codes.WENT_BACK
    assert running(machine) == old
    machine.broken = lambda _: False
    assert install_camera(installation(machine, new), SURE) == 0
    assert running(machine).startswith("2.0.0+")


def test_databases_that_the_new_release_migrated_come_back_and_others_keep_what_was_said(
    both: tuple[FakeDebian, Path],
) -> None:
    machine, new = both
    state = Layout(machine.root).state("camera")
    migrated, said = state / "events.sqlite", state / "store/frames.sqlite"
    said.parent.mkdir()
    for path in (migrated, said):
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE rows (what TEXT)")
        database.execute("INSERT INTO rows VALUES ('before')")
        database.commit()
        database.close()

    def newer(words: list[str]) -> None:
        if words[-1] != "sitecam-camera.service" or not running(machine).startswith("2.0.0"):
            return
        database = sqlite3.connect(migrated)
        database.execute("ALTER TABLE rows ADD COLUMN more TEXT")
        database.execute("PRAGMA user_version = 2")
        database.commit()
        database.close()
        database = sqlite3.connect(said)
        database.execute("INSERT INTO rows VALUES ('a label')")
        database.commit()
        database.close()

    machine.on["start"] = newer
    machine.broken = broken
    assert upgrade(installation(machine, new), new) == codes.WENT_BACK
    database = sqlite3.connect(migrated)
    assert database.execute("SELECT * FROM rows").fetchall() == [("before",)]
    database.close()
    database = sqlite3.connect(said)
    assert database.execute("SELECT * FROM rows").fetchall() == [("before",), ("a label",)]
    database.close()
    assert not (Layout(machine.root).opt / "before-upgrade").exists()


@pytest.mark.parametrize(("healthy", "runs"), [(True, "2.0.0"), (False, "1.0.0")])
def test_an_upgrade_that_a_power_cut_ended_is_brought_to_its_end_by_the_next_command(
    both: tuple[FakeDebian, Path], *, healthy: bool, runs: str
) -> None:
    machine, new = both

    class PowerCutError(BaseException):
        pass

    def cut(_: list[str]) -> None:
        raise PowerCutError

    machine.on["start"] = cut
    with pytest.raises(PowerCutError):  # the second one: nobody goes back without power
        upgrade(installation(machine, new), new)
    machine.on.pop("start")
    opt = Layout(machine.root).opt
    newer = next(path.name for path in Layout(machine.root).releases.iterdir() if path.name.startswith("2.0.0"))
    (opt / "current").unlink()
    (opt / "current").symlink_to(f"releases/{newer}")
    machine.broken = (lambda _: False) if healthy else broken
    run = installation(machine, new)
    finish_interrupted(run)
    assert running(machine).startswith(runs)
    assert machine.active == {"sitecam-camera.service", "sitecam-night.timer"}
    assert installation(machine, new).record.release == running(machine)
    assert not (opt / "before-upgrade").exists()


def test_a_dry_run_of_an_upgrade_changes_nothing(both: tuple[FakeDebian, Path]) -> None:
    machine, new = both
    machine.dry_run = True
    before, commands = tree(machine.root), len(machine.commands)
    assert upgrade(installation(machine, new), new) == 0
    assert tree(machine.root) == before
    assert len(machine.commands) == commands


def test_a_machine_without_sitecam_has_nothing_to_upgrade(tmp_path: Path, here: FakeDebian) -> None:
    with pytest.raises(InstallError, match="isn't installed"):
        upgrade(installation(here, tmp_path), tmp_path)


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6777
    return info


def test_a_release_comes_out_of_its_archive_with_or_without_a_folder_around_it(tmp_path: Path) -> None:
    for name in ("appliance/x.py", "sitecam-2.0.0/appliance/x.py"):
        folder = tmp_path / str(len(name))
        top = unpack(archive_of(tmp_path / "a.tar.gz", (member(name), b"x = 1\n")), folder)
        assert (top / "appliance/x.py").read_bytes() == b"x = 1\n"
        assert (top / "appliance/x.py").stat().st_mode & 0o6111 == 0


@pytest.mark.parametrize(
    "bad",
    [
        member("../out"),
        member("a/../../out"),
        member("/etc/passwd"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("hard", tarfile.LNKTYPE, "/etc/passwd"),
        member("pipe", tarfile.FIFOTYPE),
        member("disk", tarfile.BLKTYPE),
    ],
)
def test_an_archive_that_leads_elsewhere_is_refused_and_leaves_nothing(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    folder = tmp_path / "inner/unpacked"
    folder.parent.mkdir()
    archive = archive_of(tmp_path / "a.tar.gz", (member("appliance/x.py"), b"1"), (bad, b""))
    with pytest.raises(InstallError) as refused:
        unpack(archive, folder)
    assert refused.value.exit_code == codes.BAD_ARCHIVE
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar.gz", "inner"]


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = archive_of(tmp_path / "a.tar.gz", (member("appliance/x.py"), bytes(range(256)) * 40))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InstallError) as refused:
        unpack(path, tmp_path / "unpacked")
    assert refused.value.exit_code == codes.BAD_ARCHIVE
    assert not (tmp_path / "unpacked").exists()
