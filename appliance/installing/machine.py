"""What kind of machine this is: read from /proc, /sys and /etc, and asked of a few programs. Changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from appliance.installing.layout import Layout
from appliance.installing.run import Runner

_SENSOR = re.compile(r"[a-z]+[0-9]+[a-z0-9_]* [0-9]+-[0-9a-f]{4}")  # of a sensor on its I2C bus: "imx708 10-001a"
_RECEIVERS = ("unicam", "rp1-cfe")  # the Pi's camera receivers: there only once a sensor was found


@dataclass(frozen=True)
class Machine:
    """A machine, as far as installing cares.

    Attributes:
        root: Whether we are root.
        packages_for: What dpkg installs for, like ``arm64``; empty where there is no dpkg.
        kernel: The kernel's machine, like ``aarch64``.
        system: Distribution, like ``debian``.
        release: Its release, like ``13``; empty where it doesn't say.
        python: The system's Python, as (3, 13).
        model: The board's name; empty where it has none.
        memory_mb: All of its memory, MiB.
        swap_mb: All of its swap, MiB.
        free_mb: Free on the disk that ``/opt`` is on, MiB.
        clock: Whether the clock is synchronised; None where nobody can tell.
        taken: TCP ports on which something listens.
        sensor: Whether a camera sensor was found by the kernel.
        memory_limits: Whether systemd can limit a service's memory.
        systemd: Whether systemd runs this machine.
    """

    root: bool
    packages_for: str
    kernel: str
    system: str
    release: str
    python: tuple[int, int]
    model: str
    memory_mb: int
    swap_mb: int
    free_mb: int
    clock: bool | None
    taken: tuple[int, ...]
    sensor: bool
    memory_limits: bool
    systemd: bool


def look(layout: Layout, runner: Runner, ports: tuple[int, ...]) -> Machine:
    """Look at this machine.

    Args:
        layout: Its folders; ``/proc``, ``/sys`` and ``/etc`` are taken from its root.
        runner: Asks the programs.
        ports: Those of interest.
    """
    release = _pairs(_text(layout.root / "etc/os-release"), "=")
    memory = _pairs(_text(layout.root / "proc/meminfo"), ":")
    return Machine(
        root=os.geteuid() == 0,
        packages_for=runner.ask(["dpkg", "--print-architecture"]).output.strip(),
        kernel=platform.machine(),
        system=release.get("ID", ""),
        release=release.get("VERSION_ID", ""),
        python=sys.version_info[:2],
        model=_text(layout.root / "proc/device-tree/model").rstrip("\0\n"),
        memory_mb=_kib(memory.get("MemTotal", "")) // 1024,
        swap_mb=_kib(memory.get("SwapTotal", "")) // 1024,
        free_mb=free_mb(layout.opt),
        clock=clock_synchronised(runner),
        taken=tuple(port for port in ports if _taken(port)),
        sensor=_sensor(layout.root / "sys/class/video4linux"),
        memory_limits="memory" in _text(layout.root / "sys/fs/cgroup/cgroup.controllers").split(),
        systemd=(layout.root / "run/systemd/system").is_dir(),
    )


def clock_synchronised(runner: Runner) -> bool | None:
    """Whether the kernel's clock is synchronised, whichever program does it; None where nobody can tell."""
    told = runner.ask(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    return {"yes": True, "no": False}.get(told.output.strip()) if told.ok else None


def time_zone(layout: Layout, runner: Runner) -> str:
    """The machine's time zone as an IANA name; ``UTC`` where it has none."""
    told = runner.ask(["timedatectl", "show", "--property=Timezone", "--value"])
    link = layout.root / "etc/localtime"
    from_link = str(link.readlink()).partition("/zoneinfo/")[2] if link.is_symlink() else ""
    for name in (told.output.strip() if told.ok else "", _text(layout.root / "etc/timezone").strip(), from_link):
        if re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
            return "UTC" if name in ("Etc/UTC", "Etc/UCT", "Universal", "Zulu") else name
    return "UTC"


def free_mb(path: Path) -> int:
    """Free on the disk that ``path`` is on, or will be on, MiB."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 2**20


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are just ending don't count
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def _sensor(devices: Path) -> bool:
    names = [_text(path / "name").strip() for path in devices.glob("*")] if devices.is_dir() else []
    return any(name.startswith(_RECEIVERS) or _SENSOR.fullmatch(name) for name in names)


def _pairs(text: str, between: str) -> dict[str, str]:
    lines = (line.partition(between) for line in text.splitlines() if between in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in lines}


def _kib(value: str) -> int:
    number = value.partition(" ")[0]
    return int(number) if number.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # what can't be read isn't there, and each caller says what follows from that
