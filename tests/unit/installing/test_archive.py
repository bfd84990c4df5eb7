"""The backup's file: what is written is read, and whatever isn't byte for byte that is refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import codes
from appliance.installing.archive import ArchiveWriter, Manifest, check, contents, fits, open_archive, read_manifest

_LONG = "camera/" + "a-folder-with-a-name/" * 6 + "x" * 60
_FILES = {"camera/store/a.jpg": b"j" * 1300, "settings/sitecam.toml": b"", "camera/b": b"b" * 512, _LONG: b"long"}


def write(path: Path, files: dict[str, bytes], *, gone: str = "") -> Manifest:
    with path.open("wb") as target:
        archive = ArchiveWriter(target, manifest_bytes=5000)
        for name, data in files.items():
            source = path.with_name("source")
            source.write_bytes(data)
            with source.open("rb") as opened:
                assert archive.add(name, opened, mode=0o600, owner="camera:camera")
        if gone:
            archive.blank(gone)
        return archive.finish(sitecam="1.2.3", roles=("camera",), created_utc="2026-11-24T03:00:00Z")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    write(tmp_path / "whole", _FILES)
    return tmp_path / "whole"


def read(path: Path) -> dict[str, bytes]:
    with open_archive(path) as file:
        manifest = read_manifest(file)
        return {entry.path: b"".join(content) for entry, content in contents(file, manifest)}


def refused(path: Path) -> str:
    with pytest.raises(InstallError) as error, open_archive(path) as file:
        check(file)
    assert error.value.exit_code == codes.BAD_ARCHIVE
    return str(error.value)


def changed(whole: Path, old: bytes, new: bytes) -> Path:
    """With a piece replaced by one of the same length."""
    data = whole.read_bytes()
    assert data.count(old) >= 1
    assert len(old) == len(new)
    path = whole.with_name("changed")
    path.write_bytes(data.replace(old, new))
    return path


def test_what_was_written_is_read(whole: Path) -> None:
    with open_archive(whole) as file:
        manifest = check(file)
    assert manifest.roles == ("camera",)
    assert [entry.path for entry in manifest.files] == list(_FILES)
    assert read(whole) == _FILES


def test_any_tar_program_can_read_it(whole: Path) -> None:
    with tarfile.open(whole, "r:") as tar:
        names = [member.name for member in tar]
        assert names == ["manifest.json", *_FILES]
        found = tar.extractfile("camera/store/a.jpg")
        assert found is not None
        assert found.read() == _FILES["camera/store/a.jpg"]
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)["format"] == 1


def test_a_file_that_grew_is_cut_to_what_it_was_and_one_that_shrank_is_left_out(tmp_path: Path) -> None:
    class Shrinking(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            os.truncate(tmp_path / "source", 10)
            return super().read(size)

    with (tmp_path / "archive").open("wb") as target:
        archive = ArchiveWriter(target, manifest_bytes=5000)
        (tmp_path / "source").write_bytes(b"x" * 3_000_000)
        with Shrinking(io.FileIO(tmp_path / "source")) as source:
            assert not archive.add("camera/log", source, mode=0o600, owner="camera:camera")
        archive.finish(sitecam="1", roles=("camera",), created_utc="2026-11-24T03:00:00Z")
    assert read(tmp_path / "archive") == {}


def test_a_file_twice_or_as_a_folder_is_refused_though_its_archive_is_sound(tmp_path: Path) -> None:
    write(tmp_path / "hostile", {"camera/a": b"", "camera/a/b": b""})
    assert "as the folder of" in refused(tmp_path / "hostile")
    write(tmp_path / "hostile", {"camera/a": b"", "camera/c": b""})
    data = (tmp_path / "hostile").read_bytes()
    (tmp_path / "hostile").write_bytes(data.replace(b"camera/c", b"camera/a"))
    assert "names a file twice" in refused(tmp_path / "hostile")


def test_what_was_blanked_is_nowhere_in_the_file(tmp_path: Path) -> None:
    write(
        tmp_path / "whole",
        {"camera/store/secret-name.jpg": b"a face" * 300, "camera/b": b"b"},
        gone="camera/store/secret-name.jpg",
    )
    data = (tmp_path / "whole").read_bytes()
    assert b"a face" not in data
    assert b"secret-name" not in data
    assert list(read(tmp_path / "whole")) == ["gone/0", "camera/b"]


def test_a_rewound_archive_is_as_if_nothing_had_been_added(tmp_path: Path) -> None:
    manifests = []
    for name, detour in (("straight", False), ("detour", True)):
        (tmp_path / "source").write_bytes(b"x" * 700)
        with (tmp_path / name).open("wb") as target, (tmp_path / "source").open("rb") as source:
            archive = ArchiveWriter(target, manifest_bytes=1000)
            archive.add("camera/a", source, mode=0o600, owner="camera:camera")
            mark = archive.mark()
            if detour:
                source.seek(0)
                archive.add("camera/b", source, mode=0o600, owner="camera:camera")
                archive.rewind(mark)
            manifests.append(archive.finish(sitecam="1", roles=("camera",), created_utc="2026-11-24T03:00:00Z"))
    assert manifests[0] == manifests[1]
    assert (tmp_path / "straight").read_bytes() == (tmp_path / "detour").read_bytes()


def test_a_manifest_that_does_not_fit_is_an_error_and_no_archive(tmp_path: Path) -> None:
    with (tmp_path / "archive").open("wb") as target, pytest.raises(InstallError, match="Too many new files"):
        ArchiveWriter(target, manifest_bytes=10).finish(
            sitecam="1", roles=("camera",), created_utc="2026-11-24T03:00:00Z"
        )


def test_every_single_changed_byte_is_found(whole: Path) -> None:
    data = whole.read_bytes()
    blanks = data.index(b"]}\n") + 3, 512 + 5000  # spaces and zeros that pad the manifest: one may be the other's JSON
    for place in range(0, len(data), 37):
        if blanks[0] <= place < blanks[1]:
            continue
        spoilt = bytearray(data)
        spoilt[place] ^= 1
        path = whole.with_name("spoilt")
        path.write_bytes(spoilt)
        with open_archive(path) as file:
            try:
                manifest = check(file)
            except InstallError:
                continue
            # What remains possible is another time or version in the head: nothing that is unpacked.
            assert place < blanks[0], place
            assert [entry.path for entry in manifest.files] == list(_FILES)


@pytest.mark.parametrize("length", [0, 1, 511, 512, 3000, 6000, 8000, -513, -1])
def test_an_archive_that_is_cut_off_is_refused(whole: Path, length: int) -> None:
    data = whole.read_bytes()
    whole.write_bytes(data[:length])
    refused(whole)


def test_an_archive_with_something_behind_its_end_is_refused(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + bytes(512))
    refused(whole)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "camera/../../b",
        "camera//b",
        "camera/./b",
        "camera/b/",
        "camera",
        "server/store/of-a-role-that-it-does-not-have",
        "camera/nul\0",
        "camera\\..\\..\\b",
        "elsewhere/b",
        "camera/line\nb",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_though_its_archive_is_sound(tmp_path: Path, name: str) -> None:
    write(tmp_path / "hostile", {"camera/a": b"a", name: b"b"})
    assert "which is no path of a backup" in refused(tmp_path / "hostile")


@pytest.mark.parametrize("name", ["camera/\\ud800", "camera/" + "x" * 101, "camera/" + "y/" * 2000 + "z"])
def test_a_path_that_no_tar_can_hold_is_refused(whole: Path, name: str) -> None:
    body = _reading(whole).decode()
    path = whole.with_name("hostile")
    path.write_bytes(_with_manifest(whole, body.replace("camera/b", name).strip().encode()))
    assert "which is no path of a backup" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["files"].append(body["files"][0]),
        lambda body: body["files"][0].__setitem__(0, "camera/b/c"),
        lambda body: body["files"][0].__setitem__(1, body["files"][0][1] + 512),
        lambda body: body["files"][0].__setitem__(1, -1),
        lambda body: body["files"][0].__setitem__(1, 8**12),
        lambda body: body["files"][0].__setitem__(1, True),
        lambda body: body["files"][0].__setitem__(2, 0o4755),
        lambda body: body["files"][0].__setitem__(3, "0:0"),
        lambda body: body["files"][0].__setitem__(4, "0" * 64),
        lambda body: body["files"].reverse(),
        lambda body: body["files"].pop(),
        lambda body: body.__setitem__("format", 2),
        lambda body: body.__setitem__("format", True),
        lambda body: body.__setitem__("roles", ["root"]),
        lambda body: body.__setitem__("roles", []),
        lambda body: body.__setitem__("roles", ["camera", "camera"]),
        lambda body: body.__setitem__("sitecam", "newest"),
        lambda body: body.__setitem__("created_utc", 5),
        lambda body: body.__setitem__("files", {}),
        lambda body: body.pop("files"),
    ],
)
def test_a_table_of_contents_that_lies_is_refused(whole: Path, change: Callable[[dict[str, object]], object]) -> None:
    body = json.loads(_reading(whole))
    change(body)
    path = whole.with_name("hostile")
    path.write_bytes(_with_manifest(whole, json.dumps(body).encode()))
    refused(path)


@pytest.mark.parametrize("data", [b"[" * 4000, b"\xff\xfe", b"null", b"[]", b"{}", b"1" * 4900])
def test_a_table_of_contents_that_is_rubbish_is_refused(whole: Path, data: bytes) -> None:
    path = whole.with_name("hostile")
    path.write_bytes(_with_manifest(whole, data))
    refused(path)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"L", b"S"])
def test_anything_but_a_regular_file_is_refused(whole: Path, kind: bytes) -> None:
    data = whole.read_bytes()
    at = data.index(b"camera/b\0")
    header = bytearray(data[at : at + 512])
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = whole.with_name("hostile")
    path.write_bytes(data[:at] + bytes(header) + data[at + 512 :])
    assert "camera/b is not where it should be" in refused(path)


@pytest.mark.parametrize("mode", ["w:gz", "w:"])
def test_a_tar_that_somebody_else_made_is_refused(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "other", mode) as tar:  # type: ignore[call-overload]  # both are modes
        info = tarfile.TarInfo("manifest.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
        link = tarfile.TarInfo("camera/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    refused(tmp_path / "other")


def test_a_sparse_file_of_terabytes_is_refused_at_once(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as file:
        file.truncate(1 << 40)
    refused(bomb)


def test_a_table_of_contents_of_gigabytes_is_not_read(whole: Path) -> None:
    data = bytearray(whole.read_bytes()[:512])
    data[124:135] = b"77777777777"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    bomb = whole.with_name("bomb")
    bomb.write_bytes(data)
    os.truncate(bomb, 1 << 34)
    assert "does not begin" in refused(bomb)


def test_neither_a_pipe_nor_a_folder_nor_nothing_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")
    refused(tmp_path)
    refused(tmp_path / "missing")


def test_names_that_no_tar_can_hold_do_not_fit() -> None:
    assert fits("camera/ä.jpg")
    assert not fits("camera/" + "x" * 101)
    assert not fits("camera/" + "y/" * 160)
    assert not fits(os.fsdecode(b"camera/\xff"))
    assert not fits("camera/a\nb")


def _reading(whole: Path) -> bytes:
    return whole.read_bytes()[512 : 512 + 5000]


def _with_manifest(whole: Path, manifest: bytes) -> bytes:
    data = whole.read_bytes()
    assert len(manifest) <= 5000
    return data[:512] + manifest.ljust(5000) + data[5512:]
