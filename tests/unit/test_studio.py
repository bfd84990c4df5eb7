"""Studio, played on loopback: profile, publish, model testing, and every way in which a cloud fails."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("edgeimpulse_api", reason="Edge Impulse's SDK isn't installed (the \"studio\" extra)")

from appliance.eim.label_map import map_path
from appliance.eim.runner import start_impulse
from appliance.errors import ConfigError, PartError, StudioError
from appliance.models.manifest import MACHINES, Manifest, Part, impulse_role
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.probe import probe
from appliance.staging import is_intact, stage
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from appliance.store.locks import held
from server import cli
from server.config import ServerSettings, load
from server.paths import ServerPaths
from server.publish import deployment, publish, publish_built
from server.studio.building import TARGETS
from server.studio.cloud import Cloud
from server.studio.key import read_key
from tests.fakes import parts
from tests.fakes.foreign_eim import Shape, write_foreign
from tests.fakes.site import draw_folders, make_tiny_fleet, write_server_settings
from tests.fakes.studio import DEVICES, KEY, FakeStudio, eim_for
from tests.fakes.tree import tree_of
from trainer import messages

PROJECT = Path(__file__).resolve().parents[2]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def studio() -> Iterator[FakeStudio]:
    playing = FakeStudio(parts.LABELS)
    yield playing
    playing.close()
    assert playing.unknown == []


@pytest.fixture
def config(tmp_path: Path, studio: FakeStudio, tiny_backbone: bytes) -> Path:
    """A fleet of the tiny network, with six test frames, that knows a key."""
    key = tmp_path / "studio.key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    path = write_server_settings(tmp_path / "sitecam-server.toml")
    with path.open("a", encoding="utf-8") as file:
        file.write(
            f'\n[studio]\nkey_file = "{key}"\nendpoint = "{studio.url}/v1"\ningestion = "{studio.url}"\n'
            "job_deadline_s = 20.0\n"
        )
    settings = load(path)
    make_tiny_fleet(settings, tiny_backbone)
    pictures = draw_folders(tmp_path / "pictures", labels=parts.LABELS, seed=1, train=0, test=2)
    with FrameStore(ServerPaths(settings.state_dir).store) as store:
        import_folders(store, pictures, labels=parts.LABELS, by="test", split="test")
    return path


@pytest.fixture
def settings(config: Path) -> ServerSettings:
    return load(config)


@pytest.fixture
def shelf(settings: ServerSettings) -> Shelf:
    paths = ServerPaths(settings.state_dir)
    return Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))


def run(config: Path, *arguments: str) -> int:
    return cli.main(["--config", str(config), "studio", *arguments])


# What it is for


def test_a_profile_is_a_table_of_both_precisions(config: Path, studio: FakeStudio, capsys: Output) -> None:
    assert run(config, "profile") == 0
    said = capsys.readouterr().out
    assert "float32" in said
    assert "4,000 kB" in said
    assert "21 ms" in said
    assert "int8      no int8" in said
    assert studio.device == "raspberry-pi-4"
    assert studio.model[4:8] == b"TFL3"


def test_it_is_uploaded_with_the_settings_that_the_tutorial_clicks(config: Path, studio: FakeStudio) -> None:
    assert run(config, "profile", "--device", "raspberry-pi-5", "--json") == 0
    assert studio.settings == {
        "input": {"inputType": "image", "inputScaling": "0..255", "resizeMode": "fit-short"},
        "model": {"modelType": "classification", "labels": list(parts.LABELS)},
    }


def test_an_unknown_device_is_an_error_that_lists_the_known(config: Path, studio: FakeStudio, capsys: Output) -> None:
    assert run(config, "profile", "--device", "toaster") == 2
    assert ", ".join(DEVICES) in capsys.readouterr().err
    assert studio.model == b""
    assert run(config, "profile", "--device", "list") == 0
    assert capsys.readouterr().out.split() == list(DEVICES)


def test_what_studio_builds_becomes_a_new_running_version_with_a_signed_part_for_each_machine(
    config: Path, shelf: Shelf, capsys: Output
) -> None:
    before = shelf.manifest(1)
    assert run(config, "publish", *(word for target in TARGETS for word in ("--target", target))) == 0
    assert "round --only-deploy" in capsys.readouterr().out
    manifest = shelf.manifest(2)
    assert (shelf.current, manifest.parent, manifest.needed) == (2, 1, dict(before.parts))
    for target, machine in TARGETS.items():
        part = manifest.built_for(machine)
        assert part
        assert shelf.part(part) == eim_for(target)


def test_a_camera_gets_what_was_built_for_it_and_nothing_else(config: Path, shelf: Shelf) -> None:
    run(config, "publish", *(word for target in TARGETS for word in ("--target", target)))
    manifest = shelf.manifest(2)
    held = [part.sha256 for part in manifest.needed.values()]
    for machine in (*MACHINES, ""):
        sent = deployment(shelf, 2, held, machine).config_records[messages.CONFIG]
        built = manifest.built_for(machine)
        assert set(sent) == {"manifest", "signature", *([built.sha256] if built else [])}


def test_the_server_s_own_test_frames_are_sent_and_the_result_comes_back(
    config: Path, studio: FakeStudio, settings: ServerSettings, capsys: Output
) -> None:
    assert run(config, "upload-test") == 0
    said = capsys.readouterr().out
    assert "5 of 6 right (83.3%)" in said
    with FrameStore(ServerPaths(settings.state_dir).store) as store:
        frames = {f"{frame.id}.jpg": (frame.label, store.jpeg(frame.id)) for frame in store.frames(split="test")}
    assert studio.samples == frames


def test_the_sdk_brings_no_tensorflow_into_the_command(studio: FakeStudio) -> None:
    code = f"""
import sys
from server.config import StudioSettings
from server.studio.cloud import Cloud
print(Cloud({KEY!r}, StudioSettings(endpoint="{studio.url}/v1")).name, "tensorflow" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ran.stdout == "Site / Hardhats False\n"


# What fails


FAULTS: dict[str, tuple[str, dict[str, int | str], str]] = {
    "key": ("profile", {"/api/projects": 401}, "Studio doesn't take it"),
    "forbidden": ("publish", {"/jobs/build-ondevice-model": 403}, "may do this"),
    "quota": ("upload-test", {"/files": 429}, "quota"),
    "down": ("profile", {"/pretrained-model/upload": 503}, "Studio refused with 503"),
    "hangs up": ("publish", {"/deployment/targets/data-sources": "hang up"}, "Studio broke off"),
    "half a download": ("publish", {"/deployment/download": "half"}, "broke off in the middle"),
    "half an answer": ("profile", {"/pretrained-model": "half"}, "broke off in the middle"),
    "rubbish": ("publish", {"/pretrained-model/save": "rubbish"}, "can't be understood"),
    "refused with status 200": ("profile", {"/api/projects": "refused"}, "Studio refused with 200"),
    "settings refused with status 200": ("publish", {"/pretrained-model/save": "refused"}, "not today, (the key)"),
    "cut without a length": ("publish", {"/deployment/download": "cut"}, "didn't say how long"),
    "sent elsewhere": ("profile", {"/api/projects": "elsewhere"}, "can't be reached"),
    "pictures sent elsewhere": ("upload-test", {"/files": "elsewhere"}, "can't be reached"),
    "rubbish picture": ("upload-test", {"/classify/all/result": "rubbish"}, "can't be understood"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_cloud_is_said_and_leaves_everything_as_it_was(
    fault: str, config: Path, studio: FakeStudio, settings: ServerSettings, capsys: Output
) -> None:
    command, faults, says = FAULTS[fault]
    studio.faults.update(faults)
    before = tree_of(ServerPaths(settings.state_dir).models)
    assert run(config, command) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "go on as before" in said
    assert KEY not in said
    assert tree_of(ServerPaths(settings.state_dir).models) == before


@pytest.mark.parametrize(
    ("kind", "command"),
    [("upload", "profile"), ("profile", "profile"), ("build", "publish"), ("classify", "upload-test")],
)
def test_a_job_that_fails_is_told_with_its_last_words(
    kind: str, command: str, config: Path, studio: FakeStudio, settings: ServerSettings, capsys: Output
) -> None:
    studio.failing.add(kind)
    before = tree_of(ServerPaths(settings.state_dir).models)
    assert run(config, command) == 1
    assert f"failed: {kind}: out of luck" in capsys.readouterr().err
    assert tree_of(ServerPaths(settings.state_dir).models) == before


def test_a_picture_that_is_refused_is_said_and_one_that_is_there_already_is_not(
    config: Path, studio: FakeStudio, capsys: Output
) -> None:
    assert run(config, "upload-test") == 0
    assert run(config, "upload-test") == 0
    studio.picky = True
    studio.samples.clear()
    assert run(config, "upload-test") == 1
    assert "too dark" in capsys.readouterr().err


def test_a_test_of_no_pictures_is_no_result(config: Path, studio: FakeStudio, capsys: Output) -> None:
    studio.no_pictures = True
    assert run(config, "upload-test") == 1
    assert "no pictures" in capsys.readouterr().err


def test_a_night_that_publishes_meanwhile_is_not_undone(
    config: Path, settings: ServerSettings, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    build = Cloud.build

    def slowly(cloud: Cloud, target: str) -> bytes:
        made = publish(
            ServerPaths(settings.state_dir),
            shelf,
            shelf.manifest(1),
            parts.tiny_head(seed=9),
            night="tonight",
            metrics={},
        )
        shelf.activate(made.version)
        return build(cloud, target)

    monkeypatch.setattr(Cloud, "build", slowly)
    assert run(config, "publish") == 1
    assert "Version 2 runs meanwhile; this was built of version 1" in capsys.readouterr().err
    assert (shelf.versions(), shelf.current) == ([1, 2], 2)


def test_nothing_is_published_under_a_night(
    config: Path, settings: ServerSettings, shelf: Shelf, capsys: Output
) -> None:
    following = ServerPaths(settings.state_dir).following
    following.mkdir(parents=True, exist_ok=True)
    with held(following):
        assert run(config, "publish") == 1
    assert "A night is under way" in capsys.readouterr().err
    assert shelf.versions() == [1]


def test_without_a_fleet_it_says_so(tmp_path: Path, capsys: Output) -> None:
    path = write_server_settings(tmp_path / "sitecam-server.toml")
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    with path.open("a") as file:
        file.write(f'\n[studio]\nkey_file = "{key}"\n')
    assert run(path, "publish") == 1
    assert "Run sitecam-server init" in capsys.readouterr().err


def test_a_job_without_an_end_is_cancelled(studio: FakeStudio, settings: ServerSettings, tmp_path: Path) -> None:
    studio.endless.add("upload")
    short = dataclasses.replace(settings.studio, job_deadline_s=0.1)
    model = tmp_path / "model.tflite"
    model.write_bytes(b"TFL3")
    with pytest.raises(StudioError, match=r"not done within 0\.1 s and was cancelled"):
        Cloud(KEY, short, pause_s=0.05).upload(model, parts.LABELS)
    assert studio.cancelled == [1]


def test_a_build_that_is_no_program_for_its_machine_is_not_published(
    config: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr("tests.fakes.studio.eim_for", lambda _: eim_for("runner-linux-x86_64"))
    assert run(config, "publish") == 1
    assert "no program for aarch64" in capsys.readouterr().err
    assert (shelf.versions(), shelf.current) == ([1], 1)


def test_nobody_there_is_said(settings: ServerSettings, studio: FakeStudio) -> None:
    away = dataclasses.replace(settings.studio, endpoint="http://127.0.0.1:9/v1")
    with pytest.raises(StudioError, match="can't be reached"):
        Cloud(KEY, away)
    assert studio.model == b""


# The key


def test_without_a_key_studio_is_off(config: Path, capsys: Output) -> None:
    config.write_text(config.read_text().partition("[studio]")[0])
    assert run(config, "profile") == 2
    assert "studio.key_file is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [(KEY, 0o644, "Others may read"), ("\n", 0o600, "holds no API key"), ("two words", 0o600, "holds no API key")],
)
def test_a_bad_key_file_is_named(text: str, mode: int, says: str, settings: ServerSettings) -> None:
    settings.studio.key_file.write_text(text)
    settings.studio.key_file.chmod(mode)
    with pytest.raises(ConfigError, match=says):
        read_key(settings.studio)
    settings.studio.key_file.unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        read_key(settings.studio)


# On a camera


def studio_version(shelf: Shelf, settings: ServerSettings, folder: Path) -> Manifest:
    """Version 2 with a program that runs here, as Studio's would on a Pi."""
    shape = Shape(labels=("nobody", "hardhat", "head"), width=parts.SIDE, height=parts.SIDE, mode="fit-shortest")
    data = write_foreign(folder / "theirs.eim", shape).read_bytes()
    return publish_built(ServerPaths(settings.state_dir), shelf, shelf.manifest(1), {platform.machine(): data})


def camera_of(shelf: Shelf, settings: ServerSettings, folder: Path) -> Shelf:
    made = Shelf(folder, load_public_key(ServerPaths(settings.state_dir).signing_public.read_bytes()))
    text, signature = shelf.signed_manifest(1)
    made.accept(text, signature, {part.sha256: shelf.part(part) for part in shelf.manifest(1).parts.values()})
    return made


def sent_to(camera: Shelf, shelf: Shelf, machine: str) -> Manifest:
    config = deployment(shelf, 2, camera.digests(), machine).config_records[messages.CONFIG]
    contents = {name: data for name, data in config.items() if isinstance(data, bytes)}
    return camera.accept(contents.pop("manifest"), contents.pop("signature"), contents)


def test_a_camera_runs_what_was_built_for_it_under_the_fleet_s_labels(
    shelf: Shelf, settings: ServerSettings, tmp_path: Path
) -> None:
    studio_version(shelf, settings, tmp_path)
    camera = camera_of(shelf, settings, tmp_path / "camera")
    path = stage(camera, sent_to(camera, shelf, platform.machine()), threads=1)
    assert is_intact(path)
    with start_impulse(path, start_deadline_s=60, reply_deadline_s=60) as impulse:
        assert (impulse.info.labels, impulse.info.version) == (parts.LABELS, 2)
        assert (
            tuple(impulse.classify(np.full((parts.SIDE, parts.SIDE, 3), (200, 40, 60), np.uint8)).scores)
            == parts.LABELS
        )


def test_the_probe_takes_what_studio_calls_by_another_mode(
    shelf: Shelf, settings: ServerSettings, tmp_path: Path
) -> None:
    shape = Shape(labels=parts.LABELS, width=parts.SIDE, height=parts.SIDE, mode="squash")
    data = write_foreign(tmp_path / "theirs.eim", shape).read_bytes()
    publish_built(ServerPaths(settings.state_dir), shelf, shelf.manifest(1), {platform.machine(): data})
    camera = camera_of(shelf, settings, tmp_path / "camera")
    manifest = sent_to(camera, shelf, platform.machine())
    with start_impulse(stage(camera, manifest, threads=1), start_deadline_s=60, reply_deadline_s=60) as impulse:
        assert impulse.info.input.resize_mode != manifest.input.resize_mode
        probe(impulse, manifest, longest_ms=60_000)


def test_a_camera_for_which_nothing_was_built_assembles_the_version_as_ever(
    shelf: Shelf, settings: ServerSettings, tmp_path: Path
) -> None:
    studio_version(shelf, settings, tmp_path)
    camera = camera_of(shelf, settings, tmp_path / "camera")
    path = stage(camera, sent_to(camera, shelf, "riscv64"), threads=1)
    assert not map_path(path).exists()
    with start_impulse(path, start_deadline_s=60, reply_deadline_s=60) as impulse:
        assert impulse.info.labels == parts.LABELS


def test_the_next_night_s_version_has_nothing_that_was_built_of_another_head(
    shelf: Shelf, settings: ServerSettings, tmp_path: Path
) -> None:
    parent = studio_version(shelf, settings, tmp_path)
    made = publish(ServerPaths(settings.state_dir), shelf, parent, parts.tiny_head(seed=9), night="tonight", metrics={})
    assert impulse_role(platform.machine()) in parent.parts
    assert set(made.parts) == {"backbone", "head", "trainer"}


def test_a_part_that_was_changed_on_its_way_is_refused(shelf: Shelf, settings: ServerSettings, tmp_path: Path) -> None:
    manifest = studio_version(shelf, settings, tmp_path)
    camera = camera_of(shelf, settings, tmp_path / "camera")
    built = manifest.built_for(platform.machine())
    assert built == Part.of((tmp_path / "theirs.eim").read_bytes())
    text, signature = shelf.signed_manifest(2)
    with pytest.raises(PartError, match="is damaged"):
        camera.accept(text, signature, {built.sha256: b"something else"})
    assert camera.versions() == [1]
