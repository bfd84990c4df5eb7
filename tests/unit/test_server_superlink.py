"""How we run Flower's SuperLink, up to the point where Flower itself starts; tests/night starts it for real."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import tomllib
from pathlib import Path

import pytest

from appliance.errors import CertificateError, NightError, PortTakenError
from server.certificates import make_certificates
from server.config import CONFIG_VARIABLE, load
from server.paths import ServerPaths
from server.superlink import SuperLink
from tests.fakes.site import write_server_settings
from trainer import flower


class Stand:
    """A server's settings and certificates, on a port of the test's choice."""

    def __init__(self, root: Path, port: int) -> None:
        self.config = write_server_settings(root / "sitecam-server.toml")
        with self.config.open("a") as file:
            file.write(f"[superlink]\nport = {port}\n")
        settings = load(self.config)
        self.paths = ServerPaths(settings.state_dir)
        self.paths.root.mkdir()
        make_certificates(self.paths, fleet="f", host="127.0.0.1")
        self.link = SuperLink(settings, self.config)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def stand(tmp_path: Path, port: int) -> Stand:
    return Stand(tmp_path, port)


def program(path: Path, text: str) -> Path:
    """An executable Python program."""
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_taken_port_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stand = Stand(tmp_path, port)
        for start in (stand.link.check, stand.link.start):
            with pytest.raises(PortTakenError) as caught:
                start()
            assert f"Port {port} on 127.0.0.1 is taken" in str(caught.value)
            assert "superlink.port in sitecam-server.toml" in str(caught.value)


def test_broken_certificates_are_found_before_it_starts(stand: Stand) -> None:
    stand.paths.tls_key.unlink()
    with pytest.raises(CertificateError, match="The SuperLink can't start"):
        stand.link.start()


def test_it_takes_registered_nodes_over_tls_on_loopback_only(stand: Stand, port: int) -> None:
    command = stand.link.command()
    assert "--insecure" not in command
    assert "--enable-supernode-auth" in command
    assert "--disable-runtime-dependency-installation" in command
    pairs = dict(itertools.pairwise(command))
    assert (pairs["--host"], pairs["--port"]) == ("127.0.0.1", str(port))
    assert pairs["--ssl-keyfile"] == str(stand.paths.tls_key)


def test_its_environment_is_silent_and_tells_the_server_app_its_settings(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    environment = stand.link.environment()
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment[CONFIG_VARIABLE] == str(stand.config)


def test_flowers_command_line_is_led_to_it_and_nowhere_else(stand: Stand, port: int) -> None:
    stand.link.prepare()
    stand.link.prepare()
    config = tomllib.loads((stand.paths.flower / "config.toml").read_text())["superlink"]
    assert config["default"] == "fleet"
    assert config["fleet"] == {
        "address": f"127.0.0.1:{port}",
        "root-certificates": str(stand.paths.ca_certificate),
        "insecure": False,
    }


def test_the_app_bundle_names_apps_and_holds_no_code(stand: Stand) -> None:
    stand.link.prepare()
    files = list((stand.paths.flower / "app").iterdir())
    assert [path.name for path in files] == ["pyproject.toml"]
    components = tomllib.loads(files[0].read_text())["tool"]["flwr"]["app"]["components"]
    assert components["serverapp"] == "server.rounds:app"


def test_nobody_answers_where_it_does_not_run(stand: Stand) -> None:
    assert not stand.link.answers()


def test_something_else_on_its_port_is_not_taken_for_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert not Stand(tmp_path, other.getsockname()[1]).link.answers()


def test_one_that_ends_at_once_names_its_log(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SuperLink, "command", lambda _: [sys.executable, "-c", "print('no'); raise SystemExit(7)"])
    with pytest.raises(NightError, match=rf"ended with status 7\..*Read {stand.link.log}"):
        stand.link.start()
    assert stand.link.log.read_text() == "no\n"
    stand.link.stop()


def test_one_that_never_answers_is_ended(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    monkeypatch.setattr(SuperLink, "command", lambda _: [sys.executable, "-c", code])
    with pytest.raises(NightError, match=r"did not answer within 2 s\. Read"):
        stand.link.start(deadline_s=2)
    assert not _is_running(int(stand.link.log.read_text()))


def test_stopping_ends_what_it_started_too(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower puts its executor, and that the ServerApp, into sessions of their own."""
    grandchild = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    child = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True)\n"
        "time.sleep(600)"
    )
    monkeypatch.setattr(SuperLink, "command", lambda _: [sys.executable, "-c", child])
    monkeypatch.setattr(SuperLink, "answers", lambda link: bool(link.log.read_text().strip()))
    stand.link.start()
    pid = int(stand.link.log.read_text())
    try:
        assert _is_running(pid)
        stand.link.stop()
        assert not _is_running(pid)
    finally:
        if _is_running(pid):
            os.kill(pid, 9)


def test_stopping_one_that_was_never_started_does_nothing(stand: Stand) -> None:
    stand.link.stop()


@pytest.mark.parametrize(
    ("prints", "words"),
    [
        ({"success": False, "error-message": "already in use"}, "already in use"),
        ({}, "success"),
        (None, "Is the SuperLink running"),
    ],
)
def test_what_flowers_command_line_refuses_is_told(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: object, words: str
) -> None:
    said = "" if prints is None else json.dumps(prints)
    fake = program(tmp_path / "flwr", f"print({said!r})")
    monkeypatch.setattr(flower, "program", lambda _: str(fake))
    with pytest.raises(NightError, match="flwr supernode register failed") as caught:
        stand.link.register(tmp_path / "key.pub", "gate")
    assert words in str(caught.value)


def test_a_node_id_of_64_bits_comes_back_whole(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = program(
        tmp_path / "flwr", 'print(\'a line before\', \'{"success": true, "node-id": "18446744073709551615"}\')'
    )
    monkeypatch.setattr(flower, "program", lambda _: str(fake))
    assert stand.link.register(tmp_path / "key.pub", "gate") == 2**64 - 1


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
