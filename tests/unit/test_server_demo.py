"""The demo's options, its layout on disk, and its closing table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from appliance import config as camera_config
from appliance.errors import ConfigError, DatasetError, StoreError
from appliance.models.verdict import SwapFigures
from server import config as server_config
from server.demo.evaluate import Evaluation, LabelResult
from server.demo.options import Options, parse
from server.demo.site import lay_out
from server.demo.table import CameraRow, Table
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
    return parse(["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--page-port", "15912"])


def test_a_site_has_settings_that_can_be_read(options: Options) -> None:
    site = lay_out(options)
    server = server_config.load(site.server_config)
    assert server.fleet.labels == ("hardhat", "head")
    assert server.night.quorum == 2
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
