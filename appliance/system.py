"""How the machine is: temperature, power, disk, memory, load. What it doesn't tell is None."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

UNKNOWN = "not known on this machine"

# Bits of `vcgencmd get_throttled`: these now, the same ones shifted by 16 since the start (Raspberry Pi
# documentation, "vcgencmd", get_throttled).
_KINDS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_SINCE_START = 16
_HOT_C = 80.0  # where a Raspberry Pi begins to slow down
_FEW_BYTES = 50 * 2**20
_VCGENCMD_S = 2.0


@dataclass(frozen=True)
class Throttling:
    """What the board's firmware says of power and heat.

    Attributes:
        now: What holds it back at this moment, of ``under-voltage``, ``frequency capped``, ``throttled``,
            ``soft temperature limit``.
        since_start: The same, at any time since the machine's start.
        power_only: Only under-voltage, and only now, could be asked: the firmware didn't answer, a sensor did.
    """

    now: tuple[str, ...] = ()
    since_start: tuple[str, ...] = ()
    power_only: bool = False

    @staticmethod
    def of(bits: int) -> Throttling:
        """Read the number that ``vcgencmd get_throttled`` prints."""
        return Throttling(_named(bits), _named(bits >> _SINCE_START))


THROTTLING_KINDS = _KINDS


@dataclass(frozen=True)
class SystemState:
    """The machine at one moment; None for what it doesn't tell.

    Attributes:
        temperature_c: Of the processor, degrees Celsius.
        throttling: Power and heat, where the board has a firmware that tells.
        disk_free_bytes: Where the camera's state lies, for an ordinary user.
        disk_size_bytes: Likewise.
        memory_free_bytes: What new programs could have, without swapping.
        memory_size_bytes: All of it.
        uptime_s: Since the machine's start.
        load: Programs that ran or wanted to, on average over a minute.
        cores: Of the processor.
        board: What it calls itself, "Raspberry Pi 4 Model B Rev 1.5"; only boards with a device tree do.
        swap_free_bytes: What could still be swapped out, into compressed memory or onto the disk.
    """

    temperature_c: float | None = None
    throttling: Throttling | None = None
    disk_free_bytes: int | None = None
    disk_size_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_size_bytes: int | None = None
    uptime_s: float | None = None
    load: float | None = None
    cores: int | None = None
    board: str | None = None
    swap_free_bytes: int | None = None

    @property
    def is_pi(self) -> bool:
        """Whether a Raspberry Pi's limits of heat and power count here; other machines have their own."""
        return self.throttling is not None or "Raspberry Pi" in (self.board or "")

    @property
    def memory_and_swap_free_bytes(self) -> int | None:
        """What new programs could have, with swapping."""
        return None if self.memory_free_bytes is None else self.memory_free_bytes + (self.swap_free_bytes or 0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should do something about, in sentences."""
        found = []
        known = self.throttling or Throttling()
        if "under-voltage" in known.now:
            found.append("The power supply is too weak right now: use the board's own, and a short cable.")
        elif "under-voltage" in known.since_start:
            found.append("The power supply was too weak at times since the start: use the board's own.")
        slowed = {"throttled", "soft temperature limit"} & set(known.now)
        if self.temperature_c is not None and (self.temperature_c >= _HOT_C or slowed):
            found.append(f"The board is {self.temperature_c:.0f} °C hot and slows itself down: cool or shade it.")
        elif slowed:
            found.append("The board slows itself down: cool or shade it, and check its power supply.")
        if self.memory_free_bytes is not None and self.memory_free_bytes < _FEW_BYTES:
            found.append(f"Only {self.memory_free_bytes // 2**20} MB of memory are free: end other programs.")
        return tuple(found)

    def lines(self) -> dict[str, str]:
        """Every figure for a person, by its name."""
        power = self.throttling
        return {
            "temperature": _said(self.temperature_c, "{:.1f} °C"),
            "power": UNKNOWN if power is None else _list(power.now) or "good",
            "power since start": UNKNOWN if power is None else _list(power.since_start) or "good",
            "disk": _of(self.disk_free_bytes, self.disk_size_bytes),
            "memory": _of(self.memory_free_bytes, self.memory_size_bytes),
            "up": _said(None if self.uptime_s is None else self.uptime_s / 3600, "{:.1f} hours"),
            "load": f"{_said(self.load, '{:.2f}')}{'' if self.cores is None else f' on {self.cores} cores'}",
        }


class System:
    """Looks at the machine.

    Args:
        folder: The camera's state folder: its disk is meant.
        root: Where ``/proc`` and ``/sys`` are; another folder in tests.
        vcgencmd: The firmware's command, a name or a path.
    """

    def __init__(self, folder: Path, *, root: Path = Path("/"), vcgencmd: str = "vcgencmd") -> None:
        self._folder = folder
        self._root = root
        self._vcgencmd = shutil.which(vcgencmd)
        self._said: set[str] = set()

    def look(self) -> SystemState:
        """How it is now. Takes some milliseconds; two seconds where the firmware doesn't answer."""
        memory = self._memory()
        free, size = self._disk()
        return SystemState(
            temperature_c=self._temperature(),
            throttling=self._throttling(),
            disk_free_bytes=free,
            disk_size_bytes=size,
            memory_free_bytes=memory.get("MemAvailable"),
            memory_size_bytes=memory.get("MemTotal"),
            swap_free_bytes=memory.get("SwapFree"),
            uptime_s=self._first_number("proc/uptime"),
            load=self._first_number("proc/loadavg"),
            cores=os.cpu_count(),
            board=self._text(self._root / "proc/device-tree/model").rstrip("\0") or None,
        )

    def _temperature(self) -> float | None:
        """Of the zone that names itself the processor's; else of the first one; else what the firmware says."""
        zones = sorted((self._root / "sys/class/thermal").glob("thermal_zone*"))
        named = [zone for zone in zones if "cpu" in self._text(zone / "type") or "pkg" in self._text(zone / "type")]
        for zone in (*named, *zones):
            text = self._text(zone / "temp")
            if text.lstrip("-").isdigit():
                return int(text) / 1000
        found = re.fullmatch(r"temp=([0-9.]+)'C", self._firmware("measure_temp"))
        return float(found[1]) if found else None

    def _throttling(self) -> Throttling | None:
        found = re.fullmatch(r"throttled=0x([0-9a-fA-F]+)", self._firmware("get_throttled"))
        return Throttling.of(int(found[1], 16)) if found else self._voltage_alarm()

    def _firmware(self, question: str) -> str:
        """What the board's firmware answers; empty where there is none, or it doesn't."""
        if self._vcgencmd is None:
            return ""
        try:
            done = subprocess.run(
                [self._vcgencmd, question], capture_output=True, text=True, timeout=_VCGENCMD_S, check=True
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self._say_once(f"The board's firmware tells nothing of power and heat ({error})")
            return ""
        answer = done.stdout.strip()
        if not re.fullmatch(r"(temp|throttled)=[0-9a-fA-Fx.'C]+", answer):
            self._say_once(f"The board's firmware tells nothing of power and heat (it said {answer[:60]!r})")
        return answer

    def _voltage_alarm(self) -> Throttling | None:
        """Power alone, from the kernel's driver rpi_volt, which any user may read."""
        for sensor in sorted((self._root / "sys/class/hwmon").glob("hwmon*")):
            if self._text(sensor / "name") == "rpi_volt":
                low = self._text(sensor / "in0_lcrit_alarm") == "1"
                return Throttling(now=("under-voltage",) if low else (), power_only=True)
        return None

    def _memory(self) -> dict[str, int]:
        """Bytes by name."""
        found = {}
        for line in self._text(self._root / "proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[0].isdigit() and words[1] == "kB":
                found[name] = int(words[0]) * 1024
        return found

    def _disk(self) -> tuple[int | None, int | None]:
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError as error:
            self._say_once(f"The disk of {self._folder} can't be asked ({error})")
            return None, None
        return usage.free, usage.total

    def _first_number(self, name: str) -> float | None:
        words = self._text(self._root / name).split()
        try:
            return float(words[0]) if words else None
        except ValueError as error:
            self._say_once(f"{name} can't be read ({error})")
            return None

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return ""  # this machine has none
        except OSError as error:  # some sensors refuse while they sleep
            self._say_once(f"{path} can't be read ({error.strerror})")
            return ""

    def _say_once(self, problem: str) -> None:
        if problem not in self._said:
            self._said.add(problem)
            logger.warning("%s", problem)


def _named(bits: int) -> tuple[str, ...]:
    return tuple(kind for number, kind in enumerate(_KINDS) if bits >> number & 1)


def _list(kinds: tuple[str, ...]) -> str:
    return ", ".join(kinds)


def _said(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _of(free: int | None, size: int | None) -> str:
    return UNKNOWN if free is None or size is None else f"{free // 2**20} of {size // 2**20} MB free"
