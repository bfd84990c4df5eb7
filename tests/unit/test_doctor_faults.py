"""What the doctor itself must withstand: a driver that hangs, a check that falls over, and its own footprints."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import config
from appliance.config import PageSettings
from appliance.doctor import board, examine, site
from appliance.doctor.finding import Finding
from appliance.doctor.footprint import footprints
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore, NewFrame
from appliance.system import System
from tests.fakes.board import Board
from tests.fakes.certificates import Authority
from tests.fakes.enrolled import join
from tests.fakes.fleet import TinyFleet
from tests.fakes.site import jpeg
from tests.fakes.statuses import typical
from tests.unit.test_doctor import settings_file


class SaysBadGateway(http.server.BaseHTTPRequestHandler):
    """nginx whose SuperLink is down."""

    def do_GET(self) -> None:
        self.send_error(502)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def bad_gateway(authority: Authority) -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), SaysBadGateway) as server:
        server.socket = authority.server_context().wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_check_that_hangs_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("appliance.doctor.site.night", lambda _: over.wait())
    # A generous limit for the others would be one for this one too, so the others are replaced where they are slow.
    monkeypatch.setattr("appliance.doctor.sight.capture", lambda *_: Finding("camera", "ok", ""))
    found = {each.what: each for each in examine(config.load(settings_file(tmp_path)), limit_s=1.5)}
    over.set()
    assert (found["night"].state, "no answer within 1.5 s" in found["night"].text) == ("fault", True)
    assert found["disk"].text


def test_a_check_that_falls_over_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def falls_over(_: object) -> Finding:
        raise ValueError("numpy.dtype size changed")

    monkeypatch.setattr("appliance.doctor.sight.driver", falls_over)
    found = {each.what: each for each in examine(config.load(settings_file(tmp_path)))}
    assert (found["driver"].state, "numpy.dtype size changed" in found["driver"].text) == ("fault", True)
    assert "The check driver failed" in caplog.text
    assert len(found) > 15


def test_the_doctor_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    settings = config.load(settings_file(tmp_path))
    folder = CameraPaths(settings.state_dir).store
    with FrameStore(folder) as store:
        store.add_all([NewFrame(jpeg("head", seed=1), datetime.now(UTC), "import", "head", "test", "train")])
    picture = next(path for path in (folder / "frames").rglob("*") if path.is_file())
    left = picture.with_stem("0" * len(picture.stem))  # a kill left it; the next start sweeps, the doctor doesn't
    left.write_bytes(picture.read_bytes())
    (folder / "reserve").unlink()
    assert site.store(settings).text.startswith("1 labelled frames to learn from, 0 to test with")
    assert left.exists()
    assert not (folder / "reserve").exists()


def test_a_store_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    path = settings_file(tmp_path)
    folder = CameraPaths(config.load(path).state_dir).store
    folder.mkdir(parents=True)
    (folder / "frames.sqlite").write_bytes(b"rubbish" * 1000)
    found = {each.what: each for each in examine(config.load(path))}["store"]
    assert (found.state, "can't be read" in found.text) == ("fault", True)


def test_a_page_on_ipv6_is_found(tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    settings = config.load(settings_file(tmp_path))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        on = replace(settings, page=PageSettings(host="::1", port=server.getsockname()[1]))
        assert site.page(on).text == f"https://[::1]:{on.page.port}/ answers"


def test_a_silent_page_of_a_running_camera_is_a_fault(tmp_path: Path) -> None:
    settings = config.load(settings_file(tmp_path))
    assert (site.page(settings).state, site.page(settings, typical()).state) == ("ok", "fault")


def test_a_proxy_without_a_superlink_is_told(tmp_path: Path, tiny_backbone: bytes) -> None:
    authority = Authority(tmp_path)
    with bad_gateway(authority) as port:
        paths = join(tmp_path, TinyFleet(tmp_path, tiny_backbone), name="north", port=port)
        (paths.fleet / "ca.pem").write_bytes(authority.pem.read_bytes())
        found = site.server(config.load(settings_file(tmp_path)))
    assert (found.state, "the SuperLink behind it does not (HTTP status 502)" in found.text) == ("warning", True)


def test_the_doctor_does_not_count_itself_as_the_camera(tmp_path: Path) -> None:
    pi = Board(tmp_path)
    for pid, command in ((7, "camera"), (8, "doctor\0--memory")):
        arguments = f"/env/bin/python\0-P\0-m\0appliance.cli\0--config\0/etc/camera.toml\0{command}\0"
        pi.write(f"proc/{pid}/cmdline", arguments)
        pi.write(f"proc/{pid}/cgroup", "0::/user.slice\n")
        pi.write(f"proc/{pid}/status", "Name:\tpython\nVmRSS:\t  90000 kB\n")
    assert [(each.kind, each.pid) for each in footprints(tmp_path)] == [("camera", 7)]


def test_missing_limits_are_told_also_where_memory_is_short(tmp_path: Path) -> None:
    pi = Board(tmp_path)
    pi.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    found = board.memory(System(tmp_path, root=tmp_path, vcgencmd=str(pi.vcgencmd)).look(), tmp_path)
    assert ("zram-tools" in found.text, "cgroup_enable=memory" in found.text) == (True, True)


def test_what_only_the_firmware_knows_is_not_called_good(tmp_path: Path) -> None:
    pi = Board(tmp_path)
    pi.firmware("echo 'VCHI initialization failed' >&2; exit 255")  # a user who is not in group video
    pi.write("sys/class/hwmon/hwmon0/name", "rpi_volt\n")
    pi.write("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "0\n")
    state = System(tmp_path, root=tmp_path, vcgencmd=str(pi.vcgencmd)).look()
    assert board.throttling(state).text == "not known on this machine"
    assert board.power(state).text.startswith("good right now; what was before, only vcgencmd tells")
