"""Everything that speaks against installing here, all at once, each with its reason and its remedy. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from appliance.installing import codes
from appliance.installing.layout import Layout, Role
from appliance.installing.machine import Machine, clock_synchronised
from appliance.installing.run import Runner

PORTS: dict[Role, dict[int, str]] = {
    "camera": {4912: "sitecam-camera.service"},
    "server": {
        9443: "sitecam-proxy.service",
        8443: "sitecam-proxy.service",
        4911: "sitecam-fleet.service",
        9092: "sitecam-superlink.service",
    },
}
CLOCK_S = 60.0  # a Pi that has just booted has its time within a minute, or not at all

_LEAST_MB = 384  # a board with 512 MB shows about 420: its graphics and its kernel take their part first
_SMALL_MB = 1024
_ROOM_MB: dict[Role, int] = {
    "camera": 4096,
    "server": 6144,
}  # a server's TensorFlow unpacks to 2 GB, beside its download
_LITTLE_ROOM_MB = 300  # where everything is there already
_CONVERTING_MB = 2600  # measured: making version 1 takes 2.2 GB
_BOTH = "Sitecam is made for 64-bit Debian and Raspberry Pi OS 12 (bookworm) and 13 (trixie)"


@dataclass(frozen=True)
class Finding:
    """Something to know before installing.

    Attributes:
        kind: ``refuse`` stops; ``warning`` is said.
        what: What was found.
        means: What follows from it.
        do: The remedy.
    """

    kind: Literal["refuse", "warning"]
    what: str
    means: str
    do: str

    def line(self) -> str:
        """For a terminal."""
        return f"{'no:  ' if self.kind == 'refuse' else 'note:'} {self.what}. {self.means}. {self.do}."


def examine(
    machine: Machine,
    role: Role,
    *,
    installed: bool = False,
    clock_is_right: bool = False,
    ours: frozenset[str] = frozenset(),
    dry_run: bool = False,
) -> list[Finding]:
    """Find what speaks against installing ``role`` on this machine, and what its owner should know.

    Args:
        machine: The machine.
        role: What it shall become.
        installed: This very release is there already: it needs no room.
        clock_is_right: Somebody says so.
        ours: Services of ours that run: their ports are not taken by others.
        dry_run: Nothing will be done, so nobody need be root.
    """
    findings: list[Finding] = []

    def refuse(what: str, means: str, do: str) -> None:
        findings.append(Finding("refuse", what, means, do))

    def warn(what: str, means: str, do: str) -> None:
        findings.append(Finding("warning", what, means, do))

    if not (machine.root or dry_run):
        refuse("You are not root", "Packages, users and services can't be set up", "Run the same command with sudo")
    _system(machine, role, refuse)
    if not machine.systemd:
        refuse(
            "systemd does not run this machine",
            "Nothing would start the services, now or after a reboot",
            "Install on a machine, or in a container, that was booted by systemd",
        )
    _memory(machine, role, refuse, warn)
    room_mb = _LITTLE_ROOM_MB if installed else _ROOM_MB[role]
    if machine.free_mb < room_mb:
        refuse(
            f"{machine.free_mb} MB are free under /opt",
            f"{room_mb} MB are needed: two releases lie beside each other during an upgrade, and frames want room",
            "Make room, or use a larger card",
        )
    _clock(machine, clock_is_right, refuse)
    for port, service in PORTS[role].items():
        if port in machine.taken and service not in ours:
            refuse(
                f"Port {port} is taken",
                f"{service} is to listen there",
                f"See who has it with: sudo ss -ltnp 'sport = :{port}', and stop that",
            )
    if role == "camera":
        _camera(machine, warn)
    return findings


def settle_clock(machine: Machine, runner: Runner, *, wait_s: float = CLOCK_S, step_s: float = 2.0) -> Machine:
    """Give a clock that isn't synchronised yet a minute."""
    if machine.clock is not False:
        return machine
    runner.say(f"The clock isn't synchronised yet; waiting up to {wait_s:g} s for it ...")
    end_s = time.monotonic() + wait_s
    while time.monotonic() < end_s:
        time.sleep(step_s)
        if clock_synchronised(runner):
            return replace(machine, clock=True)
    return machine


def running(layout: Layout, runner: Runner, role: Role) -> frozenset[str]:
    """Services of ours that run now."""
    names = sorted(set(PORTS[role].values()))
    there = [name for name in names if (layout.units / name).exists()]
    return frozenset(name for name in there if runner.ask(["systemctl", "is-active", "--quiet", name]).ok)


def say_all(findings: list[Finding], runner: Runner) -> None:
    """Say all of them, and end there if one refuses.

    Raises:
        InstallError: One does; with 77 where being root is all that lacks, else 69.
    """
    for finding in findings:
        runner.say(finding.line())
    refused = [finding for finding in findings if finding.kind == "refuse"]
    if refused:
        only_root = len(refused) == 1 and refused[0].what == "You are not root"
        raise codes.failure(
            codes.NOT_ROOT if only_root else codes.REFUSED,
            "Sitecam can't be installed here yet",
            means="Nothing was changed",
            do="Mend what is said above, then run the same command again",
        )


_Say = Callable[[str, str, str], None]


def _system(machine: Machine, role: Role, refuse: _Say) -> None:
    pairs = {"amd64": "x86_64", "arm64": "aarch64"}
    if not machine.packages_for:
        refuse("There is no dpkg here", _BOTH, "Use one of them")
    elif machine.packages_for not in pairs:
        kernel = " on a 64-bit kernel" if machine.kernel in pairs.values() else ""
        refuse(
            f"This system's packages are {machine.packages_for}{kernel}",
            "Packages for learning exist for 64-bit systems only",
            "Write the 64-bit Raspberry Pi OS Lite to the card (Pi Zero 2 W, 3, 4, 5)",
        )
    elif machine.kernel != pairs[machine.packages_for]:
        refuse(
            f"The kernel is for {machine.kernel}, the packages for {machine.packages_for}",
            "What would be installed could not run, or runs emulated",
            "Start a 64-bit kernel (arm_64bit=1 in config.txt)",
        )
    debian = machine.system in ("debian", "raspbian") and machine.release in ("12", "13")
    ubuntu = machine.system == "ubuntu" and machine.release >= "24.04" and role == "server"
    if not (debian or ubuntu):
        also = "; a server may also be Ubuntu 24.04 or later" if role == "server" else ""
        refuse(f"This is {machine.system or 'an unknown system'} {machine.release}".rstrip(), _BOTH + also, "Use that")
    elif not (3, 11) <= machine.python <= (3, 13):
        refuse(
            f"The system's Python is {machine.python[0]}.{machine.python[1]}",
            "The pinned packages are for 3.11 to 3.13",
            "Use Debian or Raspberry Pi OS 12 or 13",
        )


def _memory(machine: Machine, role: Role, refuse: _Say, warn: _Say) -> None:
    if machine.memory_mb < _LEAST_MB:
        refuse(
            f"This machine has {machine.memory_mb} MB of memory",
            "Camera, model and night need a board with 512 MB (which shows about 420)",
            "Use a Pi Zero 2 W or larger",
        )
    elif role == "server" and machine.memory_mb + machine.swap_mb < _CONVERTING_MB:
        warn(
            f"This machine has {machine.memory_mb} MB of memory and {machine.swap_mb} MB of swap",
            "Making the first model takes about 2200 MB, once",
            "If it fails there, add swap and run the same command again",
        )
    elif machine.memory_mb <= _SMALL_MB and machine.swap_mb < 256:
        warn(
            f"{machine.model or 'This machine'} has {machine.memory_mb} MB of memory and {machine.swap_mb} MB of swap",
            "The camera runs, and a night waits until there is memory for it",
            "Compressed swap in memory helps: sudo apt install zram-tools (trixie's Pi OS brings its own)",
        )


def _clock(machine: Machine, clock_is_right: bool, refuse: _Say) -> None:
    if clock_is_right or machine.clock:
        return
    found = "is not synchronised" if machine.clock is False else "can't be judged: timedatectl does not answer"
    refuse(
        f"The clock {found}",
        "With a wrong time certificates count as expired and nights are refused",
        "Connect the machine to a network with a time server (timedatectl says how it stands), or, if you know that"
        " its time is right, add --clock-is-right",
    )


def _camera(machine: Machine, warn: _Say) -> None:
    if not machine.sensor:
        warn(
            "No camera was found",
            "Everything is installed, and the page will say that there is no picture",
            "Switch off, check the ribbon cable at both ends (contacts towards the board's connector), switch on",
        )
    if not machine.memory_limits:
        warn(
            "This kernel limits no service's memory",
            "MemoryMax= in the units does nothing, and the night watches its memory itself",
            "Add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and reboot",
        )
