from __future__ import annotations

import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from server.fleet import cli
from server.fleet.password import Password
from server.paths import ServerPaths
from tests.fakes.fleet_page import PASSWORD, settings_in


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings of a server with certificates, on a free port."""
    settings_in(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = tmp_path / "server.toml"
    path.write_text(f'state_dir = "state"\n[fleet]\nname = "Harbour site"\n[page]\nport = {port}\n')
    return path


def matches(config: Path, password: str) -> bool:
    return Password(ServerPaths(config.parent / "state").keys).matches(password)


def test_a_password_is_set_from_standard_input(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    assert cli.main(["--config", str(config), "password", "--stdin"]) == 0
    assert matches(config, PASSWORD)


def test_a_password_is_asked_for_twice(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _: PASSWORD)
    assert cli.main(["--config", str(config), "password"]) == 0
    assert matches(config, PASSWORD)


def test_two_different_passwords_are_none(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([PASSWORD, PASSWORD + "!"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    assert cli.main(["--config", str(config), "password"]) == 2
    assert "differ" in capsys.readouterr().err
    assert not matches(config, PASSWORD)


def test_a_short_password_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    assert cli.main(["--config", str(config), "password", "--stdin"]) == 2
    assert "It must have 10" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "password"])
def test_without_a_fleet_it_says_what_to_run_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    config = tmp_path / "server.toml"
    config.write_text('state_dir = "nothing"\n[fleet]\nname = "x"\n')
    assert cli.main(["--config", str(config), command]) == 1
    assert "sitecam-server init" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = int(config.read_text().rsplit("= ", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        assert cli.main(["--config", str(config), "run"]) == 2
    assert f"Port {port}" in capsys.readouterr().err


def test_the_command_serves_the_page_with_the_real_parts_and_ends_when_told(config: Path) -> None:
    paths = ServerPaths(config.parent / "state")
    Password(paths.keys).put(PASSWORD)
    port = int(config.read_text().rsplit("= ", 1)[1])
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = [sys.executable, "-m", "server.fleet.cli", "--config", str(config), "run"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            _wait_for(port, process)
            url = f"https://127.0.0.1:{port}"
            context = ssl.create_default_context(cafile=str(paths.ca_certificate))
            with httpx.Client(base_url=url, verify=context, headers={"Origin": url}, trust_env=False) as client:
                assert client.post("/api/login", json={"password": PASSWORD}).status_code == 200
                assert client.get("/api/fleet").json()["fleet"] == "Harbour site"
                code = client.post("/api/code", json={}).json()
                assert code["uri"].startswith("sitecam-join://127.0.0.1:")
                assert "<svg" in code["qr"]
                assert client.get("/api/fleet").json()["codes"][0]["id"] == code["text"][:4]
                joining = client.post("/v1/enrol/hello", json={}, headers={"Origin": ""})
                assert joining.status_code in (400, 403, 404, 422), "the join routes are there, and want more"
                assert "error" in json.loads(joining.text)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode in (0, -signal.SIGTERM)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while True:
        assert process.poll() is None, "it ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < ends, "it did not come up"
            time.sleep(0.05)
        else:
            return
