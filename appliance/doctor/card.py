"""The disk, which on a camera is an SD card: room, speed, wear."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from appliance.config import Settings
from appliance.doctor.finding import Finding, fault, ok, warning
from appliance.status import Status

_SEQUENTIAL_BYTES = 8 * 2**20
_SMALL_WRITES = 20
_LONGEST_S = 8.0
# Speed class A1 promises 10 MB/s in a row and 500 writes of 4 kB a second without waiting for each (SD Association,
# "Application Performance Class"); each of ours is waited for, which a good card does some hundred times a second.
_SLOW_MB_S = 5.0
_SLOW_WRITES_S = 10.0
_CYCLES = 1000  # what a card of the cheaper kind bears per cell; makers don't say
_YEARS = 5.0
_LOW_BYTES = 500 * 2**20


def disk(settings: Settings) -> Finding:
    """How much room there is, against what the settings keep free."""
    folder = _there(settings.state_dir)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return fault(
            "disk",
            f"{folder} can only be read: the system does that when a card fails. Back up what is there, replace it.",
        )
    usage = shutil.disk_usage(folder)
    text = f"{usage.free // 2**20} of {usage.total // 2**20} MB free"
    floor, budget = settings.store.floor_mb * 2**20, settings.store.budget_mb * 2**20
    if usage.free < _LOW_BYTES:
        return warning("disk", f"{text}: delete frames, or use a larger card.")
    if usage.free < floor:
        return warning("disk", f"{text}, less than store.floor_mb keeps free: no new frames are kept. Make room.")
    if usage.total < floor + budget:
        return warning("disk", f"{text}; store.budget_mb and store.floor_mb together ask for more than the disk has.")
    return ok("disk", text)


def speed(settings: Settings, root: Path) -> Finding:
    """How fast the disk under the state folder writes: a file of 8 MB, and small writes that are waited for."""
    folder = settings.state_dir
    if not folder.is_dir():
        return ok("card", "not tried: the state folder isn't made yet")
    if shutil.disk_usage(folder).free < 4 * _SEQUENTIAL_BYTES:
        return warning("card", "not tried: the disk is full.")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # without a name: a kill leaves nothing
            mb_s, writes_s = _sequential(file.fileno()), _small(file.fileno())
    except PermissionError:
        return warning("card", f"not tried: {folder} is another user's. Run it with sudo.")
    name = _card(root)
    text = f"{name + ': ' if name else ''}writes {mb_s:.0f} MB/s in a row, and {writes_s:.0f} small ones a second"
    if mb_s < _SLOW_MB_S or writes_s < _SLOW_WRITES_S:
        return warning(
            "card",
            f"{text}. That is slow: labels and frames take long to be safe. Use a card of class A1 or better, and"
            " replace one that has become slow.",
        )
    return ok("card", text)


def wear(settings: Settings, root: Path, running: Status | None) -> Finding:
    """How long a card may last at the pace at which the camera process writes."""
    for device in sorted((root / "sys/block").glob("mmcblk*/device")):
        life = _text(device / "life_time")
        if any(word not in ("0x00", "0x01", "0x02", "0x03", "0x04", "0x05", "0x06", "0x07") for word in life.split()):
            return fault("wear", f"{device.parent.name} says that its life is nearly over ({life}). Replace it soon.")
    per_day = running.written_per_day_bytes if running else None
    if per_day is None:
        return ok("wear", "not known yet: the camera process counts what it writes, and needs an hour for that")
    size = shutil.disk_usage(_there(settings.state_dir)).total
    years = size * _CYCLES / max(per_day, 1) / 365
    text = (
        f"{per_day / 1e6:.0f} MB a day written by the camera process; a card of {size / 1e9:.0f} GB that bears"
        f" {_CYCLES} writes per cell would last {min(years, 100):.0f}{' or more' if years > 100 else ''} years at that"
    )
    if years < _YEARS:
        return warning("wear", f"{text}. Lower store.per_hour, or raise store.batch_s.")
    return ok("wear", text)


def _sequential(file: int) -> float:
    block = os.urandom(2**20)
    began = time.monotonic()
    for _ in range(_SEQUENTIAL_BYTES // len(block)):
        os.write(file, block)
        if time.monotonic() - began > _LONGEST_S:
            break
    os.fsync(file)
    return os.lseek(file, 0, os.SEEK_CUR) / 1e6 / max(time.monotonic() - began, 1e-6)


def _small(file: int) -> float:
    block, done = os.urandom(4096), 0
    began = time.monotonic()
    while done < _SMALL_WRITES and time.monotonic() - began < _LONGEST_S:
        os.pwrite(file, block, done * 65536)
        os.fsync(file)
        done += 1
    return done / max(time.monotonic() - began, 1e-6)


def _card(root: Path) -> str:
    """What the first card calls itself; empty where there is none."""
    for device in sorted((root / "sys/block").glob("mmcblk*/device")):
        name, made = _text(device / "name"), _text(device / "date")
        return f"card {name} of {made}".strip() if name else ""
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""  # not every card tells


def _there(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
