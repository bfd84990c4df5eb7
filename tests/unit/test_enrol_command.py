"""The camera's ``enrol`` command: a code, an address, a QR code before the camera, or a bundle."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import segno
from PIL import Image

from appliance import cli
from appliance.camera.folder import FolderCamera
from appliance.errors import CameraError
from appliance.fleet import load_fleet
from appliance.join_code import read_uri
from appliance.paths import CameraPaths
from appliance.scanning import scan
from server.enrol import fleet_bundle
from tests.fakes.gatehouse import Gatehouse

Output = pytest.CaptureFixture[str]


def picture(text: str | None) -> Image.Image:
    """What a camera sees when a person holds a QR code before it, or nothing: 640 x 480."""
    scene = np.random.default_rng(3).integers(60, 120, (480, 640, 3)).astype(np.uint8)
    if text is not None:
        rows = [[255 * (not module) for module in row] for row in segno.make_qr(text, error="m").matrix_iter(6, 4)]
        code = np.array(rows, np.uint8)
        top, left = (480 - len(code)) // 2, (640 - len(code)) // 2
        scene[top : top + len(code), left : left + len(code)] = code[:, :, None]
    return Image.fromarray(scene)


def show(folder: Path, *texts: str | None) -> Path:
    folder.mkdir()
    for number, text in enumerate(texts):
        picture(text).save(folder / f"{number}.png")
    return folder


class Camera:
    """A camera's settings, and its command."""

    def __init__(self, root: Path, capsys: Output) -> None:
        self.root = root
        self.config = root / "sitecam.toml"
        self.paths = CameraPaths(root / "state")
        self._capsys = capsys
        self.config.write_text(
            'state_dir = "state"\n[camera]\nname = "gate-1"\nsource = "folder"\nrate_fps = 20.0\n'
            f"path = {json.dumps(str(root / 'seen'))}\n"
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        status = cli.main(["--config", str(self.config), "enrol", *arguments])
        printed = self._capsys.readouterr()
        return status, printed.out + printed.err


@pytest.fixture
def camera(tmp_path: Path, capsys: Output) -> Camera:
    return Camera(tmp_path, capsys)


@pytest.fixture
def house(tmp_path: Path, tiny_backbone: bytes) -> Iterator[Gatehouse]:
    house = Gatehouse(tmp_path, tiny_backbone)
    house.open()
    yield house
    house.close()


class Guard:
    """A person on the server who lets the next camera in."""

    def __init__(self, house: Gatehouse) -> None:
        self._house = house
        self._thread = threading.Thread(target=self._approve)

    def _approve(self) -> None:
        self._house.admission.approve(self._house.waiting()[0].id, who="page")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)


def test_a_typed_code_enrols(house: Gatehouse, camera: Camera) -> None:
    code = house.admission.new_code()
    with Guard(house):
        status, printed = camera.run(code.text.lower().replace("-", " "), "--server", f"{code.host}:{code.port}")
    assert status == 0, printed
    assert "This camera belongs to tiny site and runs version 1." in printed
    assert load_fleet(camera.paths.fleet).name == "tiny site"


def test_an_address_enrols_without_more(house: Gatehouse, camera: Camera) -> None:
    with Guard(house):
        status, printed = camera.run(house.admission.new_code().uri)
    assert status == 0, printed


def test_a_qr_code_before_the_camera_enrols(house: Gatehouse, camera: Camera) -> None:
    uri = house.admission.new_code().uri
    show(camera.root / "seen", None, "https://example.org/menu", None, uri)
    with Guard(house):
        status, printed = camera.run("--scan")
    assert status == 0, printed
    assert "A QR code, but not an invitation" in printed


def test_a_bundle_file_enrols_as_before(house: Gatehouse, camera: Camera) -> None:
    bundle = camera.root / "gate-1.bundle"
    bundle.write_bytes(fleet_bundle(house.settings))
    assert camera.run(str(bundle))[0] == 0
    assert camera.paths.node_public_key.exists()
    assert camera.run("./no-such.bundle")[1].startswith("sitecam: no-such.bundle is not an enrolment bundle")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to enrol with"),
        (("K7QF-2M9X-4PTR",), "Add --server https://HOST:PORT"),
        (("K7QF-2M9X",), "it has 8 symbols, not 12"),
        (("K7QF-2M9X-4PTR", "--server", "site:0"), "is not an address"),
        (("K7QF-2M9X-4PTR", "--server", "https://site:9444/page"), "is not an address"),
        (("K7QF-2M9X-4PTR", "--server", "http://site:9444"), "is not encrypted"),
        (("sitecam-join://site:9444/K7QF",), "not an invitation"),
        (("https://site:9444/K7QF-2M9X-4PTR#" + "0" * 64,), "not an invitation"),
    ],
)
def test_what_can_not_be_used_ends_with_2_and_what_to_do(
    camera: Camera, arguments: tuple[str, ...], words: str
) -> None:
    status, printed = camera.run(*arguments)
    assert (status, words in printed) == (2, True), printed


def test_ctrl_c_says_how_to_go_on(house: Gatehouse, camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    code = house.admission.new_code()
    arguments = (code.text, "--server", f"{code.host}:{code.port}")

    def interrupted(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        threading.Event().wait(seconds)  # the server's threads sleep by the same function

    with monkeypatch.context() as patch:
        patch.setattr("appliance.joining.time.sleep", interrupted)
        status, printed = camera.run(*arguments)
    assert (status, "The same command goes on from here" in printed) == (130, True)
    house.admission.approve(house.waiting()[0].id, who="page")
    status, printed = camera.run(*arguments)
    assert (status, "Going on with the request that was made before" in printed) == (0, True)


def test_a_person_who_holds_nothing_hears_what_to_do(tmp_path: Path) -> None:
    source = FolderCamera(show(tmp_path / "seen", None, "WIFI:S:guest;;"), rate_fps=50)
    said: list[str] = []
    with pytest.raises(CameraError, match=r"No invitation was seen in \d+ pictures.*Hold it flat"):
        scan(source, deadline_s=0.5, capture_timeout_s=5, say=said.append)
    assert len(said) == 1  # not once per picture
    with pytest.raises(CameraError, match="is not open"):
        source.capture(1)  # it let go of the camera


def test_a_picture_with_a_code_in_bad_light_is_read(tmp_path: Path) -> None:
    uri = "sitecam-join://site-server.example.org:9444/K7QF-2M9X-4PTR#" + "5a" * 32
    dim = np.asarray(picture(uri)).astype(np.float32) * 0.35 + 20
    turned = Image.fromarray(dim.astype(np.uint8)).rotate(12, expand=True, fillcolor=(40, 40, 40))
    (tmp_path / "seen").mkdir()
    turned.save(tmp_path / "seen" / "1.png")
    source = FolderCamera(tmp_path / "seen", rate_fps=20)
    invitation = scan(source, deadline_s=60, capture_timeout_s=5, say=lambda _: None)
    assert invitation == read_uri(uri)
