"""The package source that a Raspberry Pi has and Debian lacks: upstream's picamera2, and marked stand-ins."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

STANDINS = Path(__file__).parent / "standins"
_MODULES = "usr/lib/python3/dist-packages"
_NOT_REAL = "0~tests"  # version of whatever stands in for the real thing


@dataclass(frozen=True)
class _Upstream:
    package: str
    on_pypi: str
    depends: str
    native: bool = False


_UPSTREAM = (
    _Upstream(
        "python3-picamera2",
        "picamera2==0.3.38",
        "python3-libcamera, python3-numpy, python3-pil, python3-piexif, python3-prctl, python3-av,"
        " python3-libarchive-c, python3-jsonschema, python3-tqdm, python3-simplejpeg, python3-videodev2,"
        " python3-pidng, python3-openexr, python3-kms++",
    ),
    _Upstream("python3-simplejpeg", "simplejpeg", "python3-numpy", native=True),
    _Upstream("python3-videodev2", "videodev2", "python3"),
    _Upstream("python3-openexr", "OpenEXR", "python3-numpy", native=True),
)
_PIDNG = "PiDNG==4.0.9"


def make_repository(folder: Path, *, python: str) -> None:
    """Make a folder of .deb files that apt takes as a source.

    Args:
        folder: Made here.
        python: The machine's Python, like ``3.13``.

    Raises:
        subprocess.CalledProcessError: pip, gcc or dpkg-deb failed, and said why.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary)
        for upstream in _UPSTREAM:
            _repack(folder, work, upstream, python)
        _repack_pidng(folder, work)
        _stand_ins(folder, work)
    _index(folder)


def _repack(folder: Path, work: Path, upstream: _Upstream, python: str) -> None:
    downloads = work / f"{upstream.package}-wheel"
    # what Python and machine a wheel is for counts only where it holds machine code
    fits = ["--python-version", python, "--only-binary=:all:"]
    _pip("download", "--no-deps", *fits, "--dest", str(downloads), upstream.on_pypi)
    (wheel,) = downloads.glob("*.whl")
    tree = work / upstream.package
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            archive.extract(member, tree / _MODULES)
    _deb(
        folder,
        tree,
        upstream.package,
        wheel.name.split("-")[1],
        upstream.depends,
        f"{upstream.on_pypi} as upstream released it, repacked",
        native=upstream.native,
    )


def _repack_pidng(folder: Path, work: Path) -> None:
    """It has no wheel. Its compressor in C is left out: picamera2 needs it only to save compressed raw files."""
    downloads = work / "pidng-source"
    _pip("download", "--no-deps", "--no-build-isolation", "--no-binary=:all:", "--dest", str(downloads), _PIDNG)
    (source,) = downloads.glob("*.tar.gz")
    tree = work / "python3-pidng"
    modules = tree / _MODULES / "pidng"
    modules.mkdir(parents=True)
    with tarfile.open(source) as archive:
        for member in archive:
            path = Path(member.name)
            stream = archive.extractfile(member) if path.suffix == ".py" and path.parent.name == "pidng" else None
            if stream is not None:
                (modules / path.name).write_bytes(stream.read())
    _deb(folder, tree, "python3-pidng", _PIDNG.partition("==")[2], "python3-numpy", "PiDNG without its C parts")


def _stand_ins(folder: Path, work: Path) -> None:
    kms = work / "kms"
    (kms / _MODULES).mkdir(parents=True)
    shutil.copy(STANDINS / "pykms.py", kms / _MODULES)
    _deb(folder, kms, "python3-kms++", _NOT_REAL, "python3", "tests only: a stand-in, importable and no more")

    firmware = work / "firmware"
    (firmware / "usr/bin").mkdir(parents=True)
    shutil.copy(STANDINS / "vcgencmd", firmware / "usr/bin")
    (firmware / "usr/bin/vcgencmd").chmod(0o755)
    _deb(folder, firmware, "raspi-utils", _NOT_REAL, "", "tests only: a vcgencmd that answers from files")

    board = work / "board"
    (board / _MODULES).mkdir(parents=True)
    shutil.copy(STANDINS / "sitecam_virtual_camera.py", board / _MODULES)
    (board / _MODULES / "sitecam_virtual_camera.pth").write_text("import sitecam_virtual_camera\n")
    pipeline = board / "usr/share/libcamera/pipeline/virtual"
    pipeline.mkdir(parents=True)
    shutil.copy(STANDINS / "virtual.yaml", pipeline)
    library = board / "usr/lib/sitecam-tests-board.so"
    library.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(STANDINS / "board.c"), "-ldl"], check=True
    )
    _deb(
        folder,
        board,
        "sitecam-tests-board",
        _NOT_REAL,
        "python3",
        "tests only: a virtual camera as the sensor, and what a container lacks of a Pi",
        native=True,
    )


def _deb(folder: Path, tree: Path, name: str, version: str, depends: str, what: str, *, native: bool = False) -> None:
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {'amd64' if native else 'all'}\n"
        f"Maintainer: Sitecam's tests <tests@localhost>\n{f'Depends: {depends}' + chr(10) if depends else ''}"
        f"Description: {what}\n"
    )
    command = ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(folder / f"{name}_{version}.deb")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _index(folder: Path) -> None:
    stanzas = []
    for path in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", str(path)], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stanzas.append(f"{control.strip()}\nFilename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(stanzas))


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)
