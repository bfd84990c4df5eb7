"""Drop-ins beside the units: when nights begin, as the settings say, and what only a newer systemd understands."""

from __future__ import annotations

import re

from appliance.errors import InstallError
from appliance.installing.defaults import find, read_settings
from appliance.installing.installation import Installation
from appliance.installing.layout import Role
from appliance.installing.services import LASTING, reload_if
from appliance.night_window import calendar_lines, ends_after, is_time

_HEAD = (
    "# Written by Sitecam's installer, from the settings in /etc/sitecam. After a change: sudo sitecam-install apply\n"
)
_TIMERS: dict[Role, str] = {"camera": "sitecam-night.timer", "server": "sitecam-round.timer"}
_BEGINS: dict[Role, str] = {"camera": "01:00", "server": "01:15"}
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_STEPS_SINCE = 254
_BACK_OFF: dict[Role, str] = {  # restarts ever more rarely, up to so long between two
    "camera": "RestartSteps=8\nRestartMaxDelaySec=15min\n",
    "server": "RestartSteps=6\nRestartMaxDelaySec=1min\n",
}
_WATCHDOG = "# Written by Sitecam's installer (--hardware-watchdog): a board that hangs is reset.\n[Manager]\n"


def apply(installation: Installation) -> bool:
    """Have timers follow the settings; return whether anything was changed.

    Raises:
        InstallError: A setting that can't be used; nothing was changed then.
    """
    texts = {role: _window(installation, role) for role in installation.record.roles}
    changed: set[str] = set()
    for role, text in texts.items():
        timer = _TIMERS[role]
        if installation.own(installation.layout.units / f"{timer}.d/window.conf", _HEAD + text):
            changed.add(timer)
    reload_if(installation, changed)
    for timer in sorted(changed):
        if installation.runner.ask(["systemctl", "is-active", "--quiet", timer]).ok:
            installation.runner.run(["systemctl", "restart", timer], say=f"{timer} follows the settings")
    return bool(changed)


def back_off(installation: Installation) -> set[str]:
    """Have services that fail start ever more rarely, where systemd can; return what changed."""
    told = installation.runner.ask(["systemctl", "--version"]).output
    version = re.match(r"systemd ([0-9]+)", told)
    changed = set()
    for role in installation.record.roles:
        for name in LASTING[role]:
            path = installation.layout.units / f"{name}.d/back-off.conf"
            if version and int(version[1]) >= _STEPS_SINCE:
                if installation.own(path, f"{_HEAD}[Service]\n{_BACK_OFF[role]}"):
                    changed.add(name)
            elif installation.disown(path):
                changed.add(name)
    reload_if(installation, changed)
    return changed


def hardware_watchdog(installation: Installation) -> bool:
    """Have systemd feed the board's own watchdog; return whether that was new."""
    changed = installation.own(installation.layout.watchdog, f"{_WATCHDOG}RuntimeWatchdogSec=15s\n")
    if changed:
        installation.runner.run(["systemctl", "daemon-reexec"], say="Switching the hardware watchdog on (15 s)")
    return changed


def _window(installation: Installation, role: Role) -> str:
    path = installation.layout.settings_file(role)
    table = read_settings(installation, role)
    begins, zone = find(table, "night", "begins", _BEGINS[role]), find(table, "page", "time_zone", "UTC")
    if role == "camera":
        ends = find(table, "night", "ends", "05:00")
    else:
        ends = ends_after(begins, find(table, "night", "window_s", 12600.0)) if is_time(begins) else begins
    if not (is_time(begins) and is_time(ends)):
        raise InstallError(
            f"{path}: night.begins is {begins!r}, and the night ends at {ends!r}",
            means="Timers stay as they are",
            do='Write a time like "01:00"',
        )
    if not _ZONE.fullmatch(zone):
        raise InstallError(
            f"{path}: page.time_zone is {zone!r}", means="Timers stay as they are", do='Write it like "Europe/Berlin"'
        )
    lines = calendar_lines(begins, ends, zone)
    if not installation.runner.ask(["systemd-analyze", "calendar", *lines]).ok:
        raise InstallError(
            f"systemd does not understand {lines[0]!r}",
            means="Timers stay as they are",
            do=f"Correct night.begins and page.time_zone in {path}",
        )
    return "[Timer]\nOnCalendar=\n" + "".join(f"OnCalendar={line}\n" for line in lines)
