"""What pip installs on a machine: everything by its hash, and nothing that belongs to the system."""

from __future__ import annotations

import re

import pytest

from tests.fakes.debian import REPOSITORY

_REQUIREMENT = re.compile(r"^([a-z0-9.-]+)==", re.MULTILINE)


def packages(name: str) -> list[str]:
    return _REQUIREMENT.findall((REPOSITORY / f"locks/{name}.txt").read_text())


@pytest.mark.parametrize("name", ["build", "camera", "night", "server"])
def test_every_package_is_pinned_by_hash(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (REPOSITORY / f"locks/{name}.txt").read_text().strip())
    assert len(entries) == len(packages(name))
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("package", ["numpy", "opencv-python-headless", "opencv-python", "pyaudio", "picamera2"])
def test_the_cameras_environment_leaves_to_apt_what_picamera2_is_built_with(package: str) -> None:
    assert package not in packages("camera")


def test_no_camera_has_tensorflow_and_its_night_has_a_numpy_of_its_own() -> None:
    assert "tensorflow" not in {*packages("camera"), *packages("night")}
    assert "numpy" in packages("night")
    assert "tensorflow" in packages("server")


def test_what_both_of_a_cameras_processes_read_comes_in_one_version() -> None:
    pins = [
        set(re.findall(r"^(?:ai-edge-litert|pillow|cryptography)==\S+", text, re.MULTILINE))
        for text in ((REPOSITORY / f"locks/{name}.txt").read_text() for name in ("camera", "night"))
    ]
    assert pins[0] == pins[1]
    assert len(pins[0]) == 3
