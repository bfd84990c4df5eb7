from pathlib import Path

import pytest

from appliance import config
from appliance.errors import ConfigError
from server import config as server_config


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sitecam.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_with_the_least_gets_the_defaults_and_paths_count_from_its_folder(tmp_path: Path) -> None:
    settings = config.load(write(tmp_path, 'state_dir = "state"\n[camera]\nname = "gate"\n'))
    assert settings.state_dir == tmp_path / "state"
    assert (settings.page.host, settings.page.port) == ("127.0.0.1", 4912)
    assert settings.camera.source == "picamera2"


def test_an_unknown_key_names_the_nearest_valid_one(tmp_path: Path) -> None:
    path = write(tmp_path, 'state_dir = "s"\n[camera]\nname = "gate"\nrate_fbs = 5\n')
    with pytest.raises(ConfigError, match=r"unknown key camera\.rate_fbs.*Did you mean camera\.rate_fps\?"):
        config.load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[camera]\nname = 'gate'\n", r"lacks state_dir"),
        ("state_dir = 's'\n[camera]\nname = 3\n", r"camera\.name is 3"),
        ("state_dir = 's'\n[camera]\nname = 'g'\nsource = 'webcam'\n", r"one of: picamera2, folder"),
        ("state_dir = 's'\n[camera]\nname = 'g'\n[page]\nport = 70000\n", r"page\.port is out of its range"),
        ("state_dir = 's'\n[camera]\nname = 'g'\n[page]\nport = true\n", r"page\.port is True"),
        ("state_dir = 's'\n[camera]\nname = 'g'\n[page]\ntime_zone = '../etc'\n", r"time_zone"),
        ("state_dir = 's'\ncamera = 3\n", r"camera must be a table"),
        ("state_dir = ", r"not valid TOML"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.load(write(tmp_path, text))


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config"):
        config.load(tmp_path / "nowhere.toml")


def test_the_server_listens_on_loopback_only(tmp_path: Path) -> None:
    text = 'state_dir = "s"\n[fleet]\nname = "f"\n[superlink]\nlisten = "0.0.0.0"\n'
    with pytest.raises(ConfigError, match=r"superlink\.listen"):
        server_config.load(write(tmp_path, text))


def test_labels_must_be_two_or_more_different_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet\.labels"):
        server_config.load(write(tmp_path, 'state_dir = "s"\n[fleet]\nname = "f"\nlabels = ["head", "head"]\n'))
    settings = server_config.load(write(tmp_path, 'state_dir = "s"\n[fleet]\nname = "f"\nlabels = ["a", "b"]\n'))
    assert settings.fleet.labels == ("a", "b")
