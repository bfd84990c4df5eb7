from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.cached import Cached
from appliance.files import write_atomically


class Reads:
    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def __call__(self) -> str:
        self.count += 1
        return self.path.read_text()


def old(path: Path, seconds: int) -> None:
    """Make the path's last change lie that far back."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - seconds * 10**9))


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    old(tmp_path / "a", 60)
    reads = Reads(tmp_path / "a")
    value = Cached(tmp_path / "a", reads)
    assert [value() for _ in range(50)] == ["one"] * 50
    assert reads.count == 1


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    old(path, 60)
    value = Cached(path, Reads(path))
    assert value() == "one"
    write_atomically(path, b"two")
    old(path, 60)  # the very time that the first one had: it is another file all the same
    assert value() == "two"


def test_a_file_that_has_just_changed_may_change_again_within_the_same_tick(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    before = path.stat()
    value = Cached(path, Reads(path))
    assert value() == "one"
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert value() == "two"


def test_a_missing_file_is_asked_for_until_it_is_there(tmp_path: Path) -> None:
    reads = Reads(tmp_path / "a")
    value = Cached(tmp_path / "a", reads)
    with pytest.raises(FileNotFoundError):
        value()
    (tmp_path / "a").write_text("one")
    assert value() == "one"
