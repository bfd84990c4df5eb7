"""The demo's options, its layout on disk, its programs, how its cameras are let in, and its closing table."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from appliance import config as camera_config
from appliance.errors import CertificateError, ConfigError, DatasetError, NightError, SitecamError, StoreError
from appliance.fleet import load_fleet, make_node_key
from appliance.join_code import Invitation, read_address, read_code
from appliance.joining import join
from appliance.models.verdict import SwapFigures
from appliance.paths import CameraPaths
from appliance.ports import free_port
from server import config as server_config
from server.demo import __main__ as demo
from server.demo import letting_in
from server.demo.evaluate import Evaluation, LabelResult
from server.demo.fleet_page import open_fleet_page
from server.demo.letting_in import let_cameras_in
from server.demo.options import Options, parse
from server.demo.programs import Programs
from server.demo.site import DemoCamera, lay_out
from server.demo.table import CameraRow, Table
from server.fleet.password import Password
from tests.fakes.gatehouse import Gatehouse
from tests.fakes.site import draw_folders
from tests.fakes.tree import tree_of

GOOD = CameraRow(
    name="gate-1",
    version_before=1,
    version_after=2,
    accuracy_before=0.4,
    accuracy_after=0.95,
    bytes_up_per_round=40_000,
    bytes_down_per_round=30_000,
    swap=SwapFigures(0, 120.0, 110.0),
    verdict="It held",
)
SERVER = {"frames": 60, "rounds": 3, "accuracy_before": 0.5, "accuracy_after": 0.98}
TABLE = Table(
    (GOOD, dataclasses.replace(GOOD, name="gate-2")), SERVER, None, {"night": 50.0, "total": 90.0}, "published"
)


def with_camera(**changes: object) -> Table:
    return dataclasses.replace(TABLE, cameras=(GOOD, dataclasses.replace(GOOD, name="gate-2", **changes)))  # type: ignore[arg-type]  # a test changes what it likes


def test_a_good_night_has_no_shortcoming() -> None:
    assert TABLE.shortcomings() == []


@pytest.mark.parametrize(
    ("table", "sentences"),
    [
        (dataclasses.replace(TABLE, outcome="kept"), ["the night's outcome is 'kept'"]),
        (
            dataclasses.replace(TABLE, server=SERVER | {"accuracy_after": 0.5}),
            ["accuracy did not rise on the server's frames"],
        ),
        (dataclasses.replace(TABLE, server={}), ["accuracy did not rise on the server's frames"]),
        (with_camera(version_after=1, verdict="It crashed"), ["gate-2 still runs version 1: It crashed"]),
        (with_camera(accuracy_after=0.4), ["accuracy did not rise on gate-2's own test frames"]),
        (with_camera(accuracy_after=None), ["accuracy did not rise on gate-2's own test frames"]),
        (with_camera(swap=SwapFigures(3, 900.0, 110.0)), ["gate-2 lost 3 frames to the swap"]),
        (with_camera(swap=None), ["gate-2 lost ? frames to the swap"]),
    ],
)
def test_whatever_fell_short_is_said_in_a_sentence(table: Table, sentences: list[str]) -> None:
    assert table.shortcomings() == sentences


def test_the_json_has_the_keys_that_are_promised() -> None:
    evaluation = Evaluation({"head": LabelResult(30, 29), "hardhat": LabelResult(10, 10)}, ())
    body = json.loads(json.dumps(dataclasses.replace(TABLE, evaluate=evaluation).as_json()))
    assert set(body) == {"cameras", "server", "evaluate", "seconds"}
    promised = {
        *("name", "version_before", "version_after", "accuracy_before", "accuracy_after"),
        *("bytes_up_per_round", "bytes_down_per_round", "swap"),
    }
    assert promised <= set(body["cameras"][0])
    assert set(body["cameras"][0]["swap"]) == {"frames_lost", "longest_gap_ms", "steady_p99_ms"}
    assert set(body["server"]) == {"frames", "rounds", "accuracy_before", "accuracy_after"}
    assert (body["evaluate"]["frames"], body["evaluate"]["accuracy"]) == (40, 0.975)
    assert set(body["evaluate"]["per_label"]) == {"head", "hardhat"}
    assert {"night", "total"} <= set(body["seconds"])
    assert TABLE.as_json()["evaluate"] is None


def test_the_text_shows_a_camera_that_gave_no_figures_too() -> None:
    text = with_camera(swap=None, accuracy_after=None).text()
    assert "40.0% -> 95.0%" in text
    assert "not tested" in text
    assert "1 -> 2" in text


# Options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/no/such/folder"], "--data /no/such/folder does not exist"),
        (["--backbone", "/no/such/file"], "--backbone /no/such/file does not exist"),
        (["--evaluate", "/no/such/folder"], "--evaluate /no/such/folder does not exist"),
        (["--port", "0"], "--port must be from 1 to 65000"),
        (["--page-port", "70000"], "--page-port must be from 1 to 65000"),
        (["--fleet-port", "-1"], "--fleet-port must be from 1 to 65000"),
        (["--fps", "0"], "--fps must be from 0.5 to 60"),
        (["--fps", "nan"], "--fps must be from 0.5 to 60"),
    ],
)
def test_an_option_that_cannot_be_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(arguments)


def test_a_number_that_is_none_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--port", "many"])
    assert caught.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_paths_are_made_absolute_before_anything_changes_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    options = parse(["--data", "pictures", "--json", "out.json", "--once"])
    assert (options.data, options.json) == (tmp_path / "pictures", tmp_path / "out.json")
    assert options.work.is_absolute()
    assert options.once
    assert parse([]).data is None


# Layout


@pytest.fixture
def options(tmp_path: Path) -> Options:
    for number, name in enumerate(("dataset_client1", "dataset_client2"), start=1):
        draw_folders(tmp_path / "data" / name, labels=("head", "hardhat"), seed=number, train=1, test=1)
    draw_folders(tmp_path / "data" / "dataset_server", labels=("head", "hardhat"), seed=9, train=0, test=1)
    ports = ("--page-port", "15912", "--fleet-port", "15911")
    return parse(["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), *ports])


def test_a_site_has_settings_that_can_be_read(options: Options) -> None:
    site = lay_out(options)
    server = server_config.load(site.server_config)
    assert server.fleet.labels == ("hardhat", "head")
    assert server.night.quorum == 2
    assert server.page.port == 15911
    for number, camera in enumerate(site.cameras):
        settings = camera_config.load(camera.config)
        assert settings.state_dir == camera.state
        assert settings.page.port == 15912 + number
        assert settings.camera.path == camera.pictures / "test"


def test_a_path_with_quotes_and_spaces_is_still_a_path(tmp_path: Path, options: Options) -> None:
    weights = tmp_path / 'a "quoted" file.h5'
    weights.touch()
    site = lay_out(dataclasses.replace(options, backbone=weights))
    assert server_config.load(site.server_config).fleet.backbone == weights


def test_a_second_layout_starts_afresh_and_keeps_the_cache(options: Options) -> None:
    site = lay_out(options)
    (options.work / "cache").mkdir()
    (options.work / "cache" / "backbone").touch()
    (site.root / "left-over").touch()
    assert lay_out(options) == site
    assert not (site.root / "left-over").exists()
    assert (options.work / "cache" / "backbone").exists()


def test_a_folder_that_no_demo_made_is_not_touched(options: Options) -> None:
    (options.work / "demo").mkdir(parents=True)
    (options.work / "demo" / "holiday.jpg").touch()
    before = tree_of(options.work)
    with pytest.raises(StoreError, match=r"was not made by a demo\. Nothing was touched"):
        lay_out(options)
    assert tree_of(options.work) == before


@pytest.mark.parametrize("missing", ["dataset_client2", "dataset_server"])
def test_pictures_in_another_layout_are_told_and_an_earlier_site_stays(options: Options, missing: str) -> None:
    lay_out(options)
    assert options.data is not None
    (options.data / missing).rename(options.data / "elsewhere")
    before = tree_of(options.work)
    with pytest.raises(DatasetError, match="not in the tutorial's layout"):
        lay_out(options)
    assert tree_of(options.work) == before


# Ports


@pytest.mark.parametrize("option", ["--port", "--fleet-port"])
def test_a_taken_port_is_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    ports = {"--port": any_port(), "--fleet-port": any_port()}
    with socket.create_server(("127.0.0.1", ports[option])):
        words = [word for name, port in ports.items() for word in (name, str(port))]
        assert demo.main(["--work", str(tmp_path / "work"), "--once", *words]) == 2
    said = capsys.readouterr().err
    assert f"Port {ports[option]} on 127.0.0.1 is taken" in said
    assert f"choose another port with {option}" in said
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("first_page", "other"), [(0, "--page-port"), (-1, "--page-port"), (None, "--port")])
def test_two_programs_on_one_port_are_told_before_a_server_is_made(
    options: Options, capsys: pytest.CaptureFixture[str], first_page: int | None, other: str
) -> None:
    port = any_port()
    page_port = any_port() if first_page is None else port + first_page
    link_port = port if other == "--port" else any_port()
    words = f"--work {options.work} --data {options.data} --page-port {page_port} --port {link_port}".split()
    assert demo.main([*words, "--fleet-port", str(port), "--once"]) == 2
    said = capsys.readouterr().err
    assert f"both take port {port}" in said
    assert other in said
    assert not (options.work / "demo" / "server").exists()


def any_port() -> int:
    return free_port("127.0.0.1", 0, means="", do="")


# Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path / "logs") as programs:
        yield programs


def test_a_program_that_ends_while_it_is_waited_for_is_told_with_its_own_words(programs: Programs) -> None:
    programs.start("porter", "a_module_that_is_missing")
    with pytest.raises(NightError, match=r"porter ended: .*No module named a_module_that_is_missing"):
        programs.wait_for("porter", lambda: None, what="a sign")


def test_a_program_that_does_not_come_so_far_is_told(programs: Programs) -> None:
    programs.start("porter", "timeit", "-n1", "-r1", "import time; time.sleep(600)")
    with pytest.raises(NightError, match="porter did not show a sign within 0 s"):
        programs.wait_for("porter", lambda: None, what="a sign", timeout_s=0.1)


def test_a_second_ctrl_c_ends_all_at_once(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    programs.start("porter", "timeit", "-n1", "-r1", deaf)
    programs.wait_for("porter", lambda: "deaf" in programs.printed("porter") or None, what="its word")
    monkeypatch.setattr(programs, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        programs.stop()
    monkeypatch.undo()
    assert programs.wait("porter", timeout_s=20) == -9


# The fleet page, and who lets the cameras in


class JoiningProgram(Programs):
    """Runs ``sitecam enrol CODE --server HOST:PORT`` in a thread, as the command does, with shorter naps.

    Attributes:
        mute: Whether it prints nothing, as if it were another camera's screen.
    """

    mute = False

    def __init__(self, logs: Path) -> None:
        super().__init__(logs)
        self._threads: list[threading.Thread] = []
        self._ended: dict[str, int] = {}

    def start(self, name: str, module: str, *arguments: str) -> None:
        assert (module, arguments[0], arguments[2], arguments[4]) == ("appliance.cli", "--config", "enrol", "--server")
        log = self._logs / f"{name}.log"
        log.touch()

        def say(text: str) -> None:
            with log.open("a") as file:
                file.write("" if self.mute else f"{text}\n")

        def run() -> None:
            settings = camera_config.load(Path(arguments[1]))
            invitation = Invitation(read_code(arguments[3]), *read_address(arguments[5]))
            try:
                paths = CameraPaths(settings.state_dir)
                join(paths, invitation, name=settings.camera.name, say=say, wait_s=20, poll_s=0.05)
            except SitecamError as error:
                say(f"sitecam: {error}")
            self._ended[name] = 0 if (paths.fleet / "fleet.json").exists() else 1

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def status(self, name: str) -> int | None:
        return self._ended.get(name)

    def stop(self) -> None:
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def house(tmp_path: Path, tiny_backbone: bytes) -> Iterator[Gatehouse]:
    house = Gatehouse(tmp_path, tiny_backbone)
    yield house
    house.close()


@pytest.fixture
def screens(tmp_path: Path) -> Iterator[JoiningProgram]:
    screens = JoiningProgram(tmp_path / "logs")
    yield screens
    screens.stop()


def camera_of(house: Gatehouse, name: str) -> DemoCamera:
    config = house.root / f"{name}.toml"
    config.write_text(f'state_dir = "{name}"\n[camera]\nname = "{name}"\nsource = "folder"\npath = "seen"\n')
    return DemoCamera(name, config, house.root / name, house.root / "seen", "http://127.0.0.1:1/")


def test_cameras_are_let_in_with_one_code_and_a_look_at_each_ones_key(
    house: Gatehouse, screens: JoiningProgram
) -> None:
    house.open()
    cameras = [camera_of(house, name) for name in ("gate-1", "gate-2")]
    stranger = make_node_key(house.camera("stranger")).read_text().strip()
    house.admission.tables.ask(house.invitation().code.id, "stranger", stranger, "192.0.2.9", "token")
    said: list[str] = []
    let_cameras_in(house.admission, cameras, screens, said.append)
    assert re.fullmatch(rf"on each camera: sitecam enrol \S{{14}} --server 127\.0\.0\.1:{house.port}", said[0])
    assert sorted(text.split()[0] for text in said[1:]) == ["gate-1", "gate-2"]
    assert all(text.endswith("as on its screen: approved") for text in said[1:])
    for camera in cameras:
        assert load_fleet(CameraPaths(camera.state).fleet).name == house.settings.fleet.name
    assert sorted(house.link.names) == ["gate-1", "gate-2"]
    assert [request.name for request in house.admission.requests()] == ["stranger"]
    assert sum(line.startswith("demo: gate-") for line in house.trail()) == 2


def test_a_camera_whose_screen_shows_another_key_is_refused(house: Gatehouse, screens: JoiningProgram) -> None:
    house.open()
    screens.mute = True
    with pytest.raises(CertificateError, match="gate-1 was not let in: it showed the key"):
        let_cameras_in(house.admission, [camera_of(house, "gate-1")], screens, lambda _: None)
    assert house.link.names == []
    assert [request.decision for request in house.admission.requests(open_only=False)] == ["refused"]


def test_a_camera_that_can_not_join_ends_it_with_its_own_words(house: Gatehouse, screens: JoiningProgram) -> None:
    with pytest.raises(CertificateError, match=r"gate-1 could not join: .*sitecam: .*127\.0\.0\.1"):
        let_cameras_in(house.admission, [camera_of(house, "gate-1")], screens, lambda _: None)


def test_a_camera_that_takes_too_long_is_told(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleeping(JoiningProgram):
        def start(self, name: str, _: str, *__: str) -> None:
            (self._logs / f"{name}.log").write_text("Asking")

    monkeypatch.setattr(letting_in, "_DEADLINE_S", 0.0)
    with pytest.raises(CertificateError, match="gate-1 did not join within 0 s: Asking"):
        let_cameras_in(house.admission, [camera_of(house, "gate-1")], Sleeping(house.root / "logs"), lambda _: None)


def test_the_fleet_page_opens_with_a_fresh_password_and_ends_with_the_demo(house: Gatehouse, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=house.paths.ca_certificate)
    with Programs(tmp_path / "logs") as programs:
        page = open_fleet_page(programs, house.settings, house.config)
        assert page.url == f"https://127.0.0.1:{house.port}/"
        assert Password(house.paths.keys).matches(page.password)
        assert httpx.get(f"{page.url}login", verify=trust, trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url, verify=trust, trust_env=False)
