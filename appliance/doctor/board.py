"""The board: heat, power, memory, clock."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from appliance.doctor.finding import Finding, fault, ok, warning
from appliance.system import UNKNOWN, SystemState

_NIGHT_BELOW_C = 70.0  # as trainer/readiness.py has it, which a camera by day can't import
_SLOWS_DOWN_C = 80.0
_NIGHT_NEEDS_BYTES = 320 * 2**20
_SMALL_BOARD_BYTES = 1100 * 2**20
_ASK_S = 5.0
_EARLIEST_YEAR = 2026


def temperature(state: SystemState) -> Finding:
    """How hot the processor is."""
    if state.temperature_c is None:
        return ok("temperature", UNKNOWN)
    text = f"{state.temperature_c:.0f} °C"
    if not state.is_pi or state.temperature_c < _NIGHT_BELOW_C:
        return ok("temperature", text)
    if state.temperature_c < _SLOWS_DOWN_C:
        return warning("temperature", f"{text}: nights begin below {_NIGHT_BELOW_C:.0f} °C. Shade or cool the board.")
    return fault("temperature", f"{text}: the board slows itself down. Shade or cool it, with a fan if need be.")


def throttling(state: SystemState) -> Finding:
    """What the firmware holds back, and why."""
    if state.throttling is None or state.throttling.power_only:
        return ok("throttling", UNKNOWN)
    now = [kind for kind in state.throttling.now if kind != "under-voltage"]
    before = [kind for kind in state.throttling.since_start if kind != "under-voltage"]
    if now:
        return fault("throttling", f"right now: {', '.join(now)}. Cool or shade the board, and check its power supply.")
    if before:
        return warning("throttling", f"at times since the start: {', '.join(before)}. Cool or shade the board.")
    return ok("throttling", "none since the start")


def power(state: SystemState) -> Finding:
    """Whether the power supply is strong enough."""
    if state.throttling is None:
        return ok("power", UNKNOWN)
    do = "Use the board's own supply and a short, thick cable; nothing else on its USB sockets."
    if "under-voltage" in state.throttling.now:
        return fault("power", f"too weak right now: a board that loses power may lose its card. {do}")
    if "under-voltage" in state.throttling.since_start:
        return warning("power", f"too weak at times since the start. {do}")
    if state.throttling.power_only:
        return ok("power", "good right now; what was before, only vcgencmd tells, and it doesn't answer this user")
    return ok("power", "good since the start")


def memory(state: SystemState, root: Path) -> Finding:
    """Whether day and night have the memory that they need, and whether limits count."""
    size, free = state.memory_size_bytes, state.memory_and_swap_free_bytes
    if size is None or free is None:
        return ok("memory", UNKNOWN)
    swap = f" and {state.swap_free_bytes // 2**20} MB of swap" if state.swap_free_bytes else ", no swap"
    text = f"{(state.memory_free_bytes or 0) // 2**20} of {size // 2**20} MB free{swap}"
    found = []
    if free < _NIGHT_NEEDS_BYTES:
        found.append(
            f"A night needs {_NIGHT_NEEDS_BYTES // 2**20} MB and waits until they are there. Give the board"
            " compressed swap: sudo apt install zram-tools, then PERCENT=100 in /etc/default/zramswap."
        )
    elif size < _SMALL_BOARD_BYTES and not state.swap_free_bytes:
        found.append("On a board of this size compressed swap helps: sudo apt install zram-tools.")
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    if controllers.exists() and "memory" not in controllers.read_text(encoding="ascii").split():
        found.append(
            "The kernel holds no limits of memory, so a unit's MemoryMax says nothing: add cgroup_enable=memory at the"
            " end of the line in /boot/firmware/cmdline.txt, and reboot."
        )
    return warning("memory", f"{text}. {' '.join(found)}") if found else ok("memory", text)


def clock(root: Path) -> Finding:
    """Whether somebody sets it, and what it says."""
    now = datetime.now(UTC)
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    if now.year < _EARLIEST_YEAR:
        return fault("clock", f"{shown}: it was never set. Let this machine reach a time server: timedatectl.")
    rtc = "a battery clock" if any((root / "sys/class/rtc").glob("rtc*")) else "no battery clock"
    synchronised = _synchronised()
    if synchronised is None:
        return ok("clock", f"{shown}, {rtc}; nobody here tells whether a time server sets it")
    if synchronised:
        return ok("clock", f"{shown}, set by a time server, {rtc}")
    return warning(
        "clock",
        f"{shown}, {rtc}, and no time server sets it: nights are refused by the server when clocks differ by more than"
        " a few seconds. sudo timedatectl set-ntp true, and let it reach one.",
    )


def _synchronised() -> bool | None:
    """What systemd says; None where there is none to ask."""
    try:
        done = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() == "yes"
