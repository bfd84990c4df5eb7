"""What sitecam doctor finds, and what it says to do."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import cli, config
from appliance.doctor import Finding, as_json, examine
from appliance.join_code import short
from appliance.models.verdict import Verdict, write_verdict
from appliance.page_tls import PageCertificate
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore, NewFrame
from tests.fakes import parts
from tests.fakes.enrolled import join
from tests.fakes.fleet import TinyFleet
from tests.fakes.site import draw_folders, jpeg


def settings_file(root: Path, source: str = "folder") -> Path:
    pictures = root / "pictures"
    if not pictures.exists():
        draw_folders(pictures, labels=parts.LABELS, seed=1, train=1, test=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = root / "sitecam.toml"
    path.write_text(
        f'state_dir = "state"\n[camera]\nname = "gate"\nsource = "{source}"\npath = "pictures"\nrate_fps = 100\n'
        f"[page]\nport = {port}\n"
    )
    return path


def findings(path: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(config.load(path))}


@contextlib.contextmanager
def fleet_server(folder: Path) -> Iterator[int]:
    """Answers over TLS with the certificate of the fleet that :func:`join_a_fleet` makes; its port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "tls.pem", folder / "keys/tls.key")
            return context.wrap_socket(connection, server_side=True), address

    with Server(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def join_a_fleet(root: Path, backbone: bytes, *, port: int = 1) -> CameraPaths:
    return join(root, TinyFleet(root, backbone), name="north", port=port)


@pytest.mark.skipif(importlib.util.find_spec("picamera2") is not None, reason="picamera2 is here")
def test_a_machine_without_picamera2_says_what_to_install(tmp_path: Path) -> None:
    every = findings(settings_file(tmp_path, "picamera2"))
    found = every["driver"]
    assert (found.state, every["camera"].state) == ("fault", "fault")
    assert "picamera2 isn't installed, so there is no picture" in found.text
    assert "sudo apt install --no-install-recommends python3-picamera2" in found.text
    assert 'camera.source = "folder"' in found.text


def test_a_camera_that_has_not_joined_a_fleet_says_how_to(tmp_path: Path) -> None:
    found = findings(settings_file(tmp_path))
    for what in ("fleet", "model"):
        assert found[what].state == "warning"
        assert "no fleet" in found[what].text
    assert "sudo sitecam enrol CODE" in found["fleet"].text
    assert found["camera"].state == "ok"  # one fault doesn't hide what is well


def test_a_well_camera_has_no_fault(tmp_path: Path, tiny_backbone: bytes) -> None:
    with fleet_server(tmp_path / "server") as port:
        paths = join_a_fleet(tmp_path, tiny_backbone, port=port)
        with FrameStore(paths.store) as store:
            frames = [(label, seed) for label in parts.LABELS for seed in range(4)]
            store.add_all(
                [
                    NewFrame(jpeg(label, seed=seed), datetime.now(UTC), "import", label, "test", "train")
                    for label, seed in frames
                ]
            )
        found = findings(settings_file(tmp_path))
    assert {finding.what: finding.text for finding in found.values() if finding.state != "ok"} == {}
    assert "48 x 48 at" in found["camera"].text
    assert "its certificate counts for" in found["server"].text
    assert found["model"].text.startswith("version 1: head, hardhat, nobody")
    assert found["store"].text.startswith("12 labelled frames to learn from")


def test_a_server_that_cannot_be_reached_is_a_warning_and_no_fault(tmp_path: Path, tiny_backbone: bytes) -> None:
    join_a_fleet(tmp_path, tiny_backbone)
    found = findings(settings_file(tmp_path))["server"]
    assert found.state == "warning"
    assert "127.0.0.1:1 can't be reached" in found.text
    assert "nights won't train" in found.text


def test_a_damaged_part_is_found(tmp_path: Path, tiny_backbone: bytes) -> None:
    paths = join_a_fleet(tmp_path, tiny_backbone)
    part = next((paths.models / "parts").iterdir())
    part.write_bytes(b"rubbish")
    found = findings(settings_file(tmp_path))["model"]
    assert (found.state, "is damaged" in found.text) == ("fault", True)


@pytest.mark.parametrize(("final", "word"), [(True, "quarantined"), (False, "waits")])
def test_a_version_that_was_not_taken_is_told_with_its_reason(
    tmp_path: Path, tiny_backbone: bytes, final: bool, word: str
) -> None:
    paths = join_a_fleet(tmp_path, tiny_backbone)
    write_verdict(paths.models, Verdict(2, False, "It was slow", datetime.now(UTC), state="probe", final=final))
    found = findings(settings_file(tmp_path))["model"]
    assert found.state == "warning"
    assert "Version 2 " in found.text
    assert word in found.text
    assert "It was slow" in found.text


def test_too_few_labels_are_told_with_how_many_it_takes(tmp_path: Path) -> None:
    found = findings(settings_file(tmp_path))["store"]
    assert found.state == "warning"
    assert "0 labelled frames to learn from" in found.text
    assert "trains from 10 on" in found.text


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    path = settings_file(tmp_path)
    path.write_text(path.read_text().replace('"pictures"', '"nowhere"'))
    found = findings(path)["camera"]
    assert (found.state, "nowhere" in found.text) == ("fault", True)


def test_a_page_without_a_certificate_yet_is_no_fault(tmp_path: Path) -> None:
    found = findings(settings_file(tmp_path))["certificate"]
    assert (found.state, "sitecam camera makes it" in found.text) == ("ok", True)


def test_a_certificate_of_the_cameras_own_is_a_warning_with_its_fingerprint(
    tmp_path: Path, tiny_backbone: bytes
) -> None:
    paths = join_a_fleet(tmp_path, tiny_backbone)
    made = PageCertificate(paths, camera="gate")
    made.look()  # port 1 of loopback answers nobody
    found = findings(settings_file(tmp_path))["certificate"]
    assert found.state == "warning"
    assert "this camera's own, so browsers warn" in found.text
    assert "The server 127.0.0.1:1 can't be reached" in found.text
    assert found.text.endswith(f"SHA-256 {short(made.fingerprint())}")


def test_a_page_without_https_needs_no_certificate(tmp_path: Path) -> None:
    path = settings_file(tmp_path)
    path.write_text(f"{path.read_text()}https = false\n")
    found = findings(path)
    assert (found["certificate"].state, "loopback only" in found["certificate"].text) == ("ok", True)
    assert found["page"].text.startswith("http://127.0.0.1:")


def test_looking_leaves_a_camera_that_has_not_joined_as_it_is(tmp_path: Path) -> None:
    """Run as root before the service has ever started, it must not leave folders that the service can't write."""
    path = settings_file(tmp_path)
    examine(config.load(path))
    assert not (tmp_path / "state").exists()


def test_the_command_gives_1_for_a_fault_and_the_findings_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path)
    path.write_text(path.read_text().replace('"pictures"', '"nowhere"'))
    assert cli.main(["--config", str(path), "doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {"what": "camera", "state": "fault"}.items() <= next(f for f in found if f["what"] == "camera").items()
    assert cli.main(["--config", str(path), "doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found)
    assert any(line.startswith("fault    camera") for line in lines)


def test_the_command_gives_0_where_there_is_no_fault(
    tmp_path: Path, tiny_backbone: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    join_a_fleet(tmp_path, tiny_backbone)
    assert cli.main(["--config", str(settings_file(tmp_path)), "doctor"]) == 0
    assert "warning  server" in capsys.readouterr().out


def test_findings_as_json_are_what_was_found() -> None:
    assert json.loads(as_json([Finding("disk", "ok", "9 MB free")])) == [
        {"what": "disk", "state": "ok", "text": "9 MB free"}
    ]
