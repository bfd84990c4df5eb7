"""Debian packages: what belongs to the system, and only what is missing."""

from __future__ import annotations

from dataclasses import replace

from appliance.installing.installation import Installation
from appliance.installing.layout import Role
from appliance.installing.run import Runner

_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")  # another apt may run: a fresh Pi updates itself
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "a"}
PACKAGES: dict[Role, tuple[str, ...]] = {
    "camera": (
        "ca-certificates",
        "python3-venv",
        "python3-numpy",
        "python3-opencv",
        "python3-pyaudio",  # the SDK imports it for microphones, which we don't have
        "python3-libcamera",
        "python3-picamera2",
    ),
    "server": ("ca-certificates", "python3-venv", "nginx-light"),
}
_FROM_RASPBERRY_PI = ("python3-libcamera", "python3-picamera2")  # plain Debian has them not, or not both
_NGINX = "nginx.service"


def install_packages(installation: Installation, role: Role) -> bool:
    """Install what is missing of a role's packages.

    Returns:
        Whether anything was installed.

    Raises:
        InstallError: apt failed.
    """
    runner, record = installation.runner, installation.record
    missing = _missing(runner, PACKAGES[role])
    known_absent = [name for name in missing if name in record.absent and _nowhere(runner, name)]
    if known_absent == missing:  # what could not be had the last time needs no package lists each time
        _say_absent(runner, missing)
        return False
    runner.run([*_APT, "update"], say="Fetching package lists", environment=_QUIET)
    optional = [] if runner.dry_run else [name for name in _FROM_RASPBERRY_PI if name in missing]
    absent = [name for name in optional if _nowhere(runner, name)]
    _say_absent(runner, absent)
    wanted = [name for name in missing if name not in absent]
    had_nginx = runner.ask(["systemctl", "cat", _NGINX]).ok
    if wanted:
        runner.run(
            [*_APT, "install", "-y", "--no-install-recommends", *wanted],
            say=f"Installing {', '.join(wanted)}",
            environment=_QUIET,
        )
        installation.record = replace(record, packages=tuple(sorted({*record.packages, *wanted})))
    if "nginx-light" in wanted and not had_nginx:
        runner.run(["systemctl", "disable", "--now", _NGINX], say="Switching Debian's own nginx off: ours runs apart")
        installation.record = replace(installation.record, nginx_off=True)
    kept = [name for name in record.absent if name not in PACKAGES[role]]
    installation.record = replace(installation.record, absent=tuple(sorted({*kept, *absent})))
    installation.save()
    return bool(wanted)


def _missing(runner: Runner, names: tuple[str, ...]) -> list[str]:
    told = runner.ask(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *names])
    there = {line.split()[1] for line in told.output.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in there]


def _say_absent(runner: Runner, names: list[str]) -> None:
    if names:
        runner.say(
            f"note: {' and '.join(names)} can't be had from this system's package sources. A camera on the ribbon"
            " cable can't be opened without; everything else goes on. Raspberry Pi OS has it: see"
            " /etc/apt/sources.list.d."
        )


def _nowhere(runner: Runner, name: str) -> bool:
    told = runner.ask(["apt-cache", "policy", name]).output
    return "Candidate:" not in told or "Candidate: (none)" in told
