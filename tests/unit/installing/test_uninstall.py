"""Uninstalling takes what was recorded and nothing else, and never through a wrong list or a link."""

from __future__ import annotations

import builtins
import json
import os
import shutil
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing.layout import Layout
from appliance.installing.record import Record, read_record, write_record
from appliance.installing.uninstall import uninstall
from tests.fakes.debian import FakeDebian, tree
from tests.fakes.installed import installed

Machine = tuple[Layout, FakeDebian]


@pytest.fixture
def both(tmp_path: Path) -> Machine:
    """A camera and server with everything that an installer may have written, and other people's files beside it."""
    layout, machine = installed(tmp_path / "machine", "camera", "server")
    written = {path for path in layout.units.rglob("*") if path.is_file()}
    for path in (
        layout.sysusers,
        layout.journal,
        layout.watchdog,
        layout.units / "sitecam-night.timer.d/window.conf",
        layout.settings / "sitecam.toml.new",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ours\n")
        written.add(path)
    for path in (
        layout.commands / "sitecam",
        layout.commands / "sitecam-server",
        layout.root_commands / "sitecam-install",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(layout.current / "bin" / path.name)
        written.add(path)
    for other in ("etc/systemd/system/nginx.service", "usr/local/bin/backup-home", "etc/sysusers.d/other.conf"):
        (machine.root / other).write_text("somebody else's\n")
    (layout.state("camera") / "label").write_text("data")
    (layout.state("server") / "label").write_text("data")
    layout.log.write_text("what was done\n")
    (machine.root / "run/sitecam").mkdir(parents=True)
    (machine.root / "run/sitecam/status.json").write_text("{}")
    record = read_record(layout)
    write_record(
        layout, Record(**{**vars(record), "packages": ("python3-opencv",), "nginx_off": True}).with_files(written)
    )
    return layout, machine


def listed(layout: Layout) -> list[Path]:
    return [Path(name) for name in read_record(layout).files]


def add_to_list(layout: Layout, path: str) -> None:
    body = json.loads(layout.installed.read_text())
    body["files"].append(path)
    layout.installed.write_text(json.dumps(body))


def test_programs_go_and_settings_state_and_other_peoples_files_stay(both: Machine) -> None:
    layout, machine = both
    files = listed(layout)
    uninstall(layout, machine)
    assert not [path for path in files if path.exists() or path.is_symlink()]
    assert not layout.opt.exists()
    assert not (machine.root / "run/sitecam").exists()
    assert (layout.state("camera") / "label").read_text() == "data"
    assert layout.settings_file("camera").exists()
    for other in ("etc/systemd/system/nginx.service", "usr/local/bin/backup-home", "etc/sysusers.d/other.conf"):
        assert (machine.root / other).read_text() == "somebody else's\n"
    assert not (layout.units / "sitecam-night.timer.d").exists()
    commands = [" ".join(command) for command in machine.commands]
    stopped = next(command for command in commands if command.startswith("systemctl stop"))
    assert stopped.index(".timer") < stopped.index(".service")
    assert machine.active == set()
    assert "systemctl restart systemd-journald" in commands
    assert "systemctl daemon-reexec" in commands
    assert not any("userdel" in command or "apt" in command for command in commands)
    said = " ".join(machine.said + machine.shown)
    for kept in (layout.settings, layout.state("camera"), layout.state("server"), layout.log):
        assert f"Kept: {kept}" in said
    assert "python3-opencv" in said
    assert "nginx.service stays switched off" in said


def test_purge_takes_settings_state_and_users(both: Machine) -> None:
    layout, machine = both
    number = os.geteuid() + 77777
    passwd = machine.root / "etc/passwd"
    with passwd.open("a") as file:
        file.write(f"sitecam:x:{number}:990::/:/bin/false\nsitecam-server:x:{number + 1}:991::/:/bin/false\n")
    for name in (".before-restore-20261124T000000Z", ".restoring-20261124T000000Z", ".mine"):
        layout.state("camera").with_name(f"sitecam{name}").mkdir()
    uninstall(layout, machine, purge=True, yes=True)
    assert not layout.settings.exists()
    assert [path.name for path in layout.state("camera").parent.iterdir()] == ["sitecam.mine"]
    assert [command[1] for command in machine.commands if command[0] == "userdel"] == ["sitecam", "sitecam-server"]
    assert not layout.log.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_user_who_still_owns_something_stays(both: Machine) -> None:
    layout, machine = both
    with (machine.root / "etc/passwd").open("a") as file:
        file.write("sitecam:x:77777:990::/:/bin/false\n")
    left = machine.root / "var/log/of-a-camera"
    left.write_text("?")
    os.chown(left, 77777, 77777)
    uninstall(layout, machine, purge=True, yes=True)
    assert not any(command[0] == "userdel" for command in machine.commands)
    assert f"The user sitecam stays: {left} belongs to it." in machine.said


@pytest.mark.parametrize(
    "name",
    [
        "/",
        "",
        ".",
        "/etc/passwd",
        "{root}",
        "{root}/etc/passwd",
        "{root}/usr/local/bin",
        "{root}/usr/local/bin/backup-home",
        "{root}/usr/local/bin/sitecam/../backup-home",
        "{root}/etc/systemd/system/nginx.service",
        "{root}/etc/systemd/system/nginx.service.d/sitecam.conf",
        "{root}/etc/systemd/system/sitecam-camera.service.d",
        "{root}/etc/systemd/system/sitecam-camera.service.d/..",
        "{root}/etc/systemd/system/sitecam-camera.service.d/deep/x.conf",
        "{root}/etc/sitecam/sitecam.toml",
        "{root}/etc/sysusers.d/other.conf",
        "{root}/var/lib/sitecam",
        "{root}/opt/sitecam",
        "sitecam",
    ],
)
def test_a_list_with_anything_else_in_it_removes_nothing_at_all(both: Machine, name: str) -> None:
    layout, machine = both
    (layout.units / "sitecam-camera.service.d").mkdir()
    add_to_list(layout, name.format(root=layout.root))
    before = tree(layout.root)
    with pytest.raises(InstallError, match="Nothing was removed"):
        uninstall(layout, machine, purge=True, yes=True)
    assert tree(layout.root) == before
    assert machine.commands == []


def test_a_folder_where_a_file_was_is_refused(both: Machine) -> None:
    layout, machine = both
    layout.journal.unlink()
    (layout.journal / "full").mkdir(parents=True)
    with pytest.raises(InstallError, match="Nothing was removed"):
        uninstall(layout, machine)


@pytest.mark.parametrize("name", ["opt/sitecam", "etc/sitecam", "var/lib/sitecam", "var/lib", "usr/local/bin"])
def test_nothing_is_removed_through_a_link(both: Machine, tmp_path: Path, name: str) -> None:
    layout, machine = both
    link = layout.root / name
    shutil.move(link, tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    with pytest.raises(InstallError, match="Nothing was removed"):
        uninstall(layout, machine, purge=True, yes=True)
    assert tree(tmp_path / "elsewhere") == before


def test_links_inside_are_removed_and_what_they_lead_to_stays(both: Machine, tmp_path: Path) -> None:
    layout, machine = both
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("data")
    for folder in (layout.state("camera"), layout.opt, layout.settings):
        (folder / "link").symlink_to(tmp_path / "precious")
    uninstall(layout, machine, purge=True, yes=True)
    assert (tmp_path / "precious/file").read_text() == "data"
    assert not layout.opt.exists()


def test_half_an_uninstall_is_finished_by_the_next(both: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, machine = both
    files = listed(layout)
    with monkeypatch.context() as cut:
        cut.setattr("appliance.installing.uninstall.shutil.rmtree", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            uninstall(layout, machine)
    assert layout.installed.exists()
    uninstall(layout, machine)
    assert not [path for path in files if path.exists() or path.is_symlink()]
    assert not layout.opt.exists()
    uninstall(layout, machine)
    assert any("isn't installed" in line for line in machine.said)
    uninstall(layout, machine, purge=True, yes=True)
    assert not layout.state("camera").exists()
    assert not layout.state("server").exists()


@pytest.mark.parametrize(("answer", "gone"), [("delete everything", True), ("y", False), ("", False)])
def test_purge_wants_its_words_typed(
    both: Machine, monkeypatch: pytest.MonkeyPatch, answer: str, *, gone: bool
) -> None:
    layout, machine = both
    monkeypatch.setattr("appliance.installing.uninstall.sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", lambda _: answer)
    before = tree(layout.root)
    if gone:
        uninstall(layout, machine, purge=True)
        assert not layout.state("camera").exists()
        return
    with pytest.raises(InstallError, match="as you said"):
        uninstall(layout, machine, purge=True)
    assert tree(layout.root) == before


def test_a_restore_that_was_cut_off_is_finished_before_what_is_kept_is_left(both: Machine) -> None:
    layout, machine = both
    waiting = layout.state("camera").with_name("sitecam.restoring-20261124T000000Z")
    waiting.mkdir()
    (layout.opt / "restoring.json").write_text(
        json.dumps({"phase": "unpacking", "stamp": "20261124T000000Z", "folders": [], "settings": []})
    )
    uninstall(layout, machine)
    assert not waiting.exists()
    assert (layout.state("camera") / "label").exists()


def test_a_dry_run_says_what_would_go(both: Machine) -> None:
    layout, machine = both
    machine.dry_run = True
    before = tree(layout.root)
    uninstall(layout, machine, purge=True)
    assert tree(layout.root) == before
    assert any("would remove" in line for line in machine.said)
