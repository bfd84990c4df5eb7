"""The night process where it does not get as far as Flower; tests/night holds whole nights."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from appliance.models.signing import public_pem
from appliance.night_status import read_night_status
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore, NewFrame
from appliance.system import System
from server.certificates import make_certificates
from server.paths import ServerPaths
from tests.fakes import parts
from tests.fakes.board import Board
from tests.fakes.fleet import TinyFleet
from tests.fakes.site import jpeg
from trainer.night import main


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """main() settles its process in for the night; this one has other tests to run."""
    monkeypatch.setattr(os, "nice", lambda _: 0)
    with patch.dict(os.environ):
        yield


def options(root: Path, text: str = "", *, window_s: float = 60) -> list[str]:
    """A camera's settings; the options that name them."""
    (root / "sitecam.toml").write_text(f'state_dir = "state"\n[camera]\nname = "gate"\n{text}')
    return ["--config", str(root / "sitecam.toml"), "--night", "tonight", "--window-minutes", str(window_s / 60)]


def enrolled(root: Path, backbone: bytes, *, port: int, labels: tuple[str, ...] = parts.LABELS * 4) -> CameraPaths:
    """The state of an enrolled camera with a frame of each of these labels."""
    paths = CameraPaths(root / "state")
    fleet = TinyFleet(root, backbone)
    fleet.shelf(paths.models, 1)
    paths.fleet.mkdir()
    (paths.fleet / "ca.pem").write_bytes(authority(root / "server").ca_certificate.read_bytes())
    (paths.fleet / "signing.pem").write_bytes(public_pem(fleet.public_key))
    (paths.fleet / "fleet.json").write_text(f'{{"name": "f", "host": "127.0.0.1", "port": {port}}}')
    with FrameStore(paths.store) as store:
        store.add_all(
            [
                NewFrame(jpeg(label, seed=number), datetime.now(UTC), "import", label, "test", "train")
                for number, label in enumerate(labels)
            ]
        )
    return paths


def authority(root: Path) -> ServerPaths:
    paths = ServerPaths(root)
    if not paths.root.exists():
        paths.root.mkdir()
        make_certificates(paths, fleet="f", host="127.0.0.1")
    return paths


@contextlib.contextmanager
def tls_server(paths: ServerPaths) -> Iterator[int]:
    """Shakes hands with whoever comes, has nothing for them, and hangs up; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.tls_certificate, paths.tls_key)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with (
                connection,
                contextlib.suppress(OSError),
                context.wrap_socket(connection, server_side=True) as tls,
            ):
                tls.recv(4096)
                tls.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_camera_without_a_fleet_says_how_to_join_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "sitecam-night: This camera isn't enrolled" in said
    assert "Run sitecam enrol" in said


def test_a_misspelt_setting_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(tmp_path, "[night]\nmin_frame = 3\n")) == 2
    assert "Did you mean night.min_frames?" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_named_when_the_window_ends(
    tmp_path: Path, tiny_backbone: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        port = int(taken.getsockname()[1])
        paths = enrolled(tmp_path, tiny_backbone, port=port)
        assert main(options(tmp_path, window_s=1)) == 1
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port} could not be reached tonight" in said
    assert "its model stays" in said
    status = read_night_status(paths.night_status)
    assert (status.phase, status.night) == ("failed", "tonight")
    assert "could not be reached" in status.message


def test_a_server_of_another_fleet_is_refused_at_once(
    tmp_path: Path, tiny_backbone: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with tls_server(authority(tmp_path / "stranger")) as port:
        paths = enrolled(tmp_path, tiny_backbone, port=port)
        assert main(options(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "this fleet's authority did not sign" in said
    assert "nothing was sent" in said
    assert read_night_status(paths.night_status).phase == "failed"
    kinds = [json.loads(line)["kind"] for line in paths.ledger.read_text().splitlines()]
    assert kinds == ["total"]  # a handshake, and not a message
    assert not (paths.flower / "supernode.log").exists()


def test_a_taken_port_is_named_with_the_setting_that_changes_it(
    tmp_path: Path, tiny_backbone: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        tls_server(authority(tmp_path / "server")) as port,
    ):
        taken = other.getsockname()[1]
        paths = enrolled(tmp_path, tiny_backbone, port=port)
        assert main(options(tmp_path, f"[night]\nruntime_port = {taken}\n")) == 2
    said = capsys.readouterr().err
    assert f"Port {taken} on 127.0.0.1 is taken" in said
    assert "night.runtime_port" in said
    assert "is taken" in read_night_status(paths.night_status).message


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The machine that the night runs on; it looks at it all the time."""
    board = Board(tmp_path / "board")
    monkeypatch.setattr(
        "trainer.night.System", lambda folder: System(folder, root=board.root, vcgencmd=str(board.vcgencmd))
    )
    monkeypatch.setattr("trainer.readiness._STEP_S", 0.0)
    monkeypatch.setattr("trainer.readiness.memory_of", lambda _: 0)  # this process has all tests' memory
    return board


def test_a_board_that_gets_too_hot_while_it_reads_its_frames_ends_the_night(
    tmp_path: Path, tiny_backbone: bytes, board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = enrolled(tmp_path, tiny_backbone, port=1)
    board.zone(0, "cpu-thermal", "80500")
    assert main(options(tmp_path)) == 1
    assert "The board is 80 °C hot" in capsys.readouterr().err
    status = read_night_status(paths.night_status)
    assert (status.phase, "so that the live loop is not slowed down" in status.message) == ("failed", True)
    assert not (paths.flower / "supernode.log").exists()


def test_a_board_that_gets_too_hot_at_work_ends_the_night_and_gets_no_second_supernode(
    tmp_path: Path,
    tiny_backbone: bytes,
    board: Board,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    happened: list[str] = []

    class HotNode:
        """A SuperNode that is well, on a board that isn't."""

        running, unknown, refused = True, False, False

        def __init__(self, *_: object) -> None:
            happened.append("started")

        def wait_until_up(self, going: Callable[[], bool]) -> None:
            board.zone(0, "cpu-thermal", "81000")
            going()

        def end(self) -> None:
            happened.append("ended")

    monkeypatch.setattr("trainer.night.SuperNode", HotNode)
    with tls_server(authority(tmp_path / "server")) as port:
        paths = enrolled(tmp_path, tiny_backbone, port=port)
        assert main(options(tmp_path)) == 1
    assert happened == ["started", "ended"]
    assert "The board is 81 °C hot" in capsys.readouterr().err
    assert "81 °C hot" in read_night_status(paths.night_status).message
