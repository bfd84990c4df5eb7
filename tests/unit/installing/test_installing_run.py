"""Commands as they are really run: logged, without a shell, with deadlines; and the installer's own command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import __main__ as command
from appliance.installing import codes
from appliance.installing.layout import Layout
from appliance.installing.run import SystemRunner
from tests.fakes.debian import REPOSITORY


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log/install.log"


def test_a_command_its_output_and_its_time_are_in_a_log_that_only_root_reads(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = SystemRunner(log)
    assert runner.run(["printf", "%s", "hello there"], say="Greeting").output == "hello there"
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert "$ printf %s 'hello there'" in text
    assert "hello there\n" in text
    assert "-> 0, 0." in text
    assert capsys.readouterr().out == "Greeting ...\n"


def test_shell_metacharacters_reach_the_program_as_they_are(log: Path, tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/pwned); `id` > {tmp_path}/pwned && *"
    assert SystemRunner(log).run(["printf", "%s", hostile]).output == hostile
    assert not (tmp_path / "pwned").exists()


def test_secrets_are_not_in_the_log(log: Path) -> None:
    runner = SystemRunner(log)
    runner.run(["printf", "%s", "K7QF-2M9X"], secrets=["K7QF-2M9X"])
    runner.run(["cat"], given="hunter2", secrets=["hunter2"], live=False)
    assert "K7QF" not in log.read_text()
    assert "hunter2" not in log.read_text()


def test_what_is_started_does_not_import_the_installers_own_code(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/installer/code")
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/simple")
    said = SystemRunner(log).run(["env"]).output.splitlines()
    assert not any(line.startswith("PYTHONPATH=") for line in said)
    assert "PIP_INDEX_URL=https://packages.example/simple" in said


def test_a_failure_says_what_the_program_said_last(log: Path) -> None:
    runner = SystemRunner(log)
    with pytest.raises(InstallError, match="No such file"):
        runner.run(["ls", "/nowhere/at/all"])
    assert runner.run(["ls", "/nowhere/at/all"], check=False).status == 2
    assert runner.ask(["no-such-program-anywhere"]).status == 127


def test_a_command_that_never_ends_is_ended(log: Path) -> None:
    done = SystemRunner(log).run(["sleep", "60"], check=False, deadline_s=0.05)
    assert done.status == 124


def test_a_live_command_is_seen_at_once_and_logged_without_its_secret(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SystemRunner(log).run(["printf", "code %s\\nwaiting\\n", "K7QF"], live=True, secrets=["K7QF"])
    assert capsys.readouterr().out == "  code K7QF\n  waiting\n"
    assert "waiting" in log.read_text()
    assert "K7QF" not in log.read_text()


def test_a_dry_run_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner = SystemRunner(None, dry_run=True)
    runner.run(["touch", str(tmp_path / "made")], say="Making it")
    assert not (tmp_path / "made").exists()
    assert capsys.readouterr().out.startswith("would run: touch ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["camera", "--serv", "x"], ["upgrade"], ["camera", "--code"]],
)
def test_a_wrong_call_ends_with_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == codes.WRONG_CALL
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["apply"], ["upgrade", "x"], ["uninstall"], ["backup", "x"], ["restore", "x"]])
def test_without_root_every_command_ends_with_77(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("appliance.installing.__main__.os.geteuid", lambda: 1000)
    assert command.main(arguments) == codes.NOT_ROOT
    assert "sudo" in capsys.readouterr().err


def test_an_error_keeps_its_exit_code_and_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    layout.opt.mkdir(parents=True)
    layout.installed.write_text("{")
    monkeypatch.setattr(command, "Layout", lambda: layout)
    monkeypatch.setattr("appliance.installing.__main__.os.geteuid", lambda: 0)
    assert command.main(["apply"]) == codes.FAILED
    assert "installed.json" in layout.log.read_text()


def test_the_installer_starts_on_the_standard_library_alone() -> None:
    # -S: no site-packages, as on a machine where nothing is installed yet
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, "-S", "-P", "-B", "-m", "appliance.installing", "camera", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "--hardware-watchdog" in ended.stdout
