from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.systemd import START_AFRESH_EXIT_CODE, Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket that hears what systemd would, and what $NOTIFY_SOCKET says."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@sitecam-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(name if request.param == "path" else "\0" + name[1:])
        ear.settimeout(5)
        yield ear, name


def heard(ear: socket.socket) -> list[str]:
    """Everything that was said so far."""
    said = []
    ear.setblocking(False)
    while True:
        try:
            said.append(ear.recv(4096).decode())
        except BlockingIOError:
            return said


def test_ready_status_and_stopping_are_heard_word_for_word(systemd: tuple[socket.socket, str]) -> None:
    ear, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.status("version 3, 9.8 decisions a second at the Nordtür")
    notifier.status("version 3, 9.8 decisions a second at the Nordtür")
    notifier.stopping()
    assert heard(ear) == ["READY=1", "STATUS=version 3, 9.8 decisions a second at the Nordtür", "STOPPING=1"]
    notifier.close()


def test_a_beat_is_sent_once_in_a_quarter_of_the_deadline(systemd: tuple[socket.socket, str]) -> None:
    ear, name = systemd
    now_s = 50.0
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "8000000"}, clock=lambda: now_s)
    assert notifier.beat_every_s == 2
    for _ in range(100):  # ten seconds of a loop that runs ten times a second
        notifier.beat()
        now_s += 0.1
    assert heard(ear) == ["WATCHDOG=1"] * 5
    notifier.close()


@pytest.mark.parametrize(
    ("watchdog", "beats"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "1000000"}, True),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "-5"}, False),
    ],
)
def test_only_the_process_that_systemd_watches_beats(
    systemd: tuple[socket.socket, str], watchdog: dict[str, str], beats: bool
) -> None:
    ear, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name, **watchdog})
    notifier.beat()
    assert heard(ear) == (["WATCHDOG=1"] if beats else [])
    notifier.close()


def test_a_status_cannot_smuggle_another_word_to_systemd(systemd: tuple[socket.socket, str]) -> None:
    ear, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.status("no picture\nMAINPID=1\r\nSTOPPING=1" + " and so on" * 100)
    (said,) = heard(ear)
    assert "\n" not in said
    assert said.startswith("STATUS=no picture MAINPID=1 STOPPING=1 and so on")
    assert len(said) <= 210
    notifier.close()


def test_outside_systemd_nothing_is_sent_and_no_socket_is_opened() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names only
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    notifier.ready()
    notifier.beat()
    notifier.status("alone")
    notifier.stopping()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    notifier.close()


def test_a_systemd_that_cannot_be_reached_is_logged_once_and_heard_of_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gone"
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    with caplog.at_level(logging.WARNING):
        notifier.ready()
        notifier.stopping()
    assert len(caplog.records) == 1
    assert "could not be told READY=1" in caplog.text
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        notifier.ready()
        assert heard(ear) == ["READY=1"]
    notifier.close()


def test_a_systemd_that_does_not_listen_never_holds_the_loop_up(systemd: tuple[socket.socket, str]) -> None:
    ear, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(5000):  # many more than its queue holds: a blocking send would hang here
        notifier.ready()
    assert 0 < len(heard(ear)) < 5000
    notifier.close()


def test_a_name_that_is_no_unix_socket_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notifier = Notifier({"NOTIFY_SOCKET": "vsock:2:1234"})
    notifier.ready()
    assert "no Unix socket" in caplog.text


def test_after_closing_nothing_is_sent(systemd: tuple[socket.socket, str]) -> None:
    ear, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    notifier.close()
    notifier.close()
    notifier.beat()
    notifier.stopping()
    assert heard(ear) == []


def test_the_exit_code_is_the_one_that_unit_files_name() -> None:
    assert os.EX_TEMPFAIL == START_AFRESH_EXIT_CODE
