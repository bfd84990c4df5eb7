"""Builds a root file system as near to a fresh Raspberry Pi OS Lite as Debian comes, with nothing of ours in it.

Debian with systemd; libcamera from backports, which has the virtual camera; and a package source inside that offers
what Raspberry Pi OS offers beyond Debian, so that install.sh's own apt commands run unchanged.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from appliance.errors import InstallError
from tests.pi.frames import draw_frames
from tests.pi.repository import make_repository
from tests.pi.saying import Story
from tests.pi.surroundings import Surroundings, look_around

PYTHONS = {"trixie": "3.13", "bookworm": "3.11"}
_PACKAGES = (  # what Raspberry Pi OS Lite has, as far as it can matter here
    "systemd,systemd-sysv,systemd-timesyncd,libpam-systemd,udev,dbus,sudo,python3,apt,iproute2,iputils-ping,"
    "ca-certificates,procps,kmod,less,tzdata,curl,openssl"
)
_REPOSITORY = "opt/tests-packages"
_PINS = """\
Explanation: Raspberry Pi OS ships this version; Debian's own is older and lacks the virtual camera.
Package: libcamera* python3-libcamera gstreamer1.0-libcamera
Pin: release n={suite}-backports
Pin-Priority: 990
"""


def image_folder(work: Path, suite: str) -> Path:
    """Where an image lies."""
    return work / "images" / suite


def build_image(suite: str, work: Path, story: Story) -> Path:
    """Build an image; what stands there already is replaced once the new one is whole.

    Args:
        suite: ``trixie`` or ``bookworm``.
        work: Folder for everything that is made.
        story: Told what happens.

    Raises:
        InstallError: A tool is missing, or failed.
    """
    for tool in ("mmdebstrap", "dpkg-deb", "gcc", "systemd-nspawn"):
        if shutil.which(tool) is None:
            raise InstallError(
                f"{tool} was not found",
                means="No test machine can be made",
                do="apt install mmdebstrap dpkg gcc libc6-dev linux-libc-dev systemd-container",
            )
    here = look_around()
    folder = image_folder(work, suite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{suite}.", dir=folder.parent) as temporary:
        root = Path(temporary) / "root"
        story.say(f"Debian {suite} from {here.mirror}")
        _debian(root, suite, here)
        story.say("The package source of picamera2 and the stand-ins")
        make_repository(root / _REPOSITORY, python=PYTHONS[suite])
        draw_frames(root / "srv/frames", seed=1, per_label=12)
        _configure(root, suite, here)
        story.say("The stand-ins for a Pi's board")
        _inside(root, "apt-get", "-qq", "update")
        _inside(
            root, "apt-get", "-qq", "install", "-y", "--no-install-recommends", "raspi-utils", "sitecam-tests-board"
        )
        # every Python of the machine loads it, and must not write beside it
        _inside(root, "python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages")
        (root / "etc/ld.so.preload").write_text("/usr/lib/sitecam-tests-board.so\n")
        # a fresh system has no package lists, and fetches them itself
        _inside(root, "apt-get", "clean")
        shutil.rmtree(root / "var/lib/apt/lists")
        if folder.exists():
            shutil.rmtree(folder)
        root.rename(folder)
    story.say(f"{folder}: {_megabytes(folder)} MB")
    return folder


def _debian(root: Path, suite: str, here: Surroundings) -> None:
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=important", "--architectures=amd64"]
    command += [f"--include={_PACKAGES}", '--aptopt=Acquire::Languages "none"', "--keyring=/usr/share/keyrings"]
    # docs only make it larger
    command += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
    done = subprocess.run([*command, suite, str(root), here.mirror], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"mmdebstrap failed: {done.stderr[-2000:]}", do="See whether the mirror has this release")


def _configure(root: Path, suite: str, here: Surroundings) -> None:
    def write(path: str, text: str, mode: int = 0o644) -> None:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    sources = [f"deb {here.mirror} {name} main" for name in (suite, f"{suite}-updates", f"{suite}-backports")]
    write("etc/apt/sources.list", "\n".join(sources) + "\n")
    write("etc/apt/sources.list.d/tests.list", f"deb [trusted=yes] file:///{_REPOSITORY} ./\n")
    write("etc/apt/preferences.d/libcamera", _PINS.format(suite=suite))
    write("etc/pip.conf", here.pip_conf())
    write("etc/resolv.conf", here.resolver)
    write("etc/hostname", "raspberrypi\n")
    write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 raspberrypi\n")
    write("etc/rpi-issue", "Raspberry Pi reference, played by Sitecam's tests\n")
    write("srv/standins/model", "Raspberry Pi 4 Model B Rev 1.5 (played by Sitecam's tests)\0")
    write("srv/standins/vcgencmd/get_throttled", "throttled=0x0\n")
    write("srv/standins/vcgencmd/measure_temp", "temp=48.3'C\n")
    # timesyncd doesn't run in a container; others look for its mark
    write("etc/tmpfiles.d/tests-clock.conf", "f /run/systemd/timesync/synchronized 0644 root root\n")
    write("etc/machine-id", "")
    for path in here.certificates:
        shutil.copy(path, root / "usr/local/share/ca-certificates")
    _inside(root, "update-ca-certificates")
    (root / "etc/localtime").unlink(missing_ok=True)
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")


def _inside(root: Path, *command: str) -> None:
    done = subprocess.run(
        ["chroot", str(root), "/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InstallError(f"{' '.join(command)} failed in the image: {(done.stdout + done.stderr)[-2000:]}")


def _megabytes(folder: Path) -> int:
    told = subprocess.run(["du", "-sm", str(folder)], capture_output=True, text=True, check=True).stdout
    return int(told.split()[0])
