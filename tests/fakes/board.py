"""A machine as a folder: the files of /proc and /sys that a camera looks at, and a stand-in for vcgencmd."""

from __future__ import annotations

from pathlib import Path


class Board:
    """A Raspberry Pi Zero 2 W, healthy until a test says otherwise.

    Args:
        root: Where its files go.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.zone(0, "cpu-thermal", "48312")
        self.write("proc/meminfo", "MemTotal:         436488 kB\nMemFree:  12 kB\nMemAvailable:     201236 kB\n")
        self.write("proc/uptime", "93784.27 341212.90\n")
        self.write("proc/loadavg", "0.52 0.58 0.59 1/163 12345\n")
        self.vcgencmd = root / "usr/bin/vcgencmd"
        self.firmware("echo throttled=0x0")

    def write(self, name: str, text: str) -> None:
        """Make a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def zone(self, number: int, kind: str, temperature: str) -> None:
        """Make a thermal zone; its temperature is in thousandths of a degree."""
        self.write(f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
        self.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{temperature}\n")

    def firmware(self, script: str) -> None:
        """What vcgencmd does, in shell."""
        self.write("usr/bin/vcgencmd", f'#!/bin/sh\n[ "$1" = get_throttled ] || exit 9\n{script}\n')
        self.vcgencmd.chmod(0o755)
