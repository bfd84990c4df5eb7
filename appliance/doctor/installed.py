"""What is installed: LiteRT, packages against their locks, the model's cell, systemd's services."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
from pathlib import Path

from appliance import litert
from appliance.doctor.finding import Finding, fault, ok, warning
from appliance.eim.cell import cell_state
from appliance.status import Status

_CURRENT = Path("opt/sitecam/current")
_ENVIRONMENTS = ("camera", "night")
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)
_SHOWN = ("ai-edge-litert", "tflite-runtime", "numpy", "pillow", "edge-impulse-linux", "flwr")
_ASK_S = 5.0
_UNITS = ("sitecam-camera.service", "sitecam-night.timer", "sitecam-reboot.path")


def runtime() -> Finding:
    """Whether models can run here."""
    name = litert.runtime_module().__name__.split(".")[0]
    if importlib.util.find_spec("edge_impulse_linux") is None:
        return fault("runtime", "edge_impulse_linux is missing: install Sitecam's camera extra")
    return ok("runtime", f"{name}, edge_impulse_linux")


def wheels(root: Path) -> Finding:
    """Whether what is installed is what the release's locks name."""
    here = {name: version for name in _SHOWN if (version := _version(name))}
    shown = ", ".join(f"{name} {version}" for name, version in here.items())
    wrong = []
    for environment in _ENVIRONMENTS:
        lock = root / _CURRENT / "code/locks" / f"{environment}.txt"
        if lock.exists():
            wrong += [f"{environment}: {each}" for each in _differences(lock, root / _CURRENT / environment)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return warning(
            "wheels", f"{shown}. Not as the release was tested: {'; '.join(wrong[:3])}{more}. Run the installer again."
        )
    return ok("wheels", shown)


def cell(running: Status | None) -> Finding:
    """Whether a model is kept from network and pictures here."""
    state = cell_state()
    if state.works:
        return ok("cell", "a model runs without a network, without pictures and keys")
    of = "" if running is None else " (of this command; the service has its own)"
    return warning("cell", f"a model would run with the camera's own rights{of}: {state.why}")


def services(root: Path) -> Finding:
    """Whether systemd runs what was installed."""
    if not (root / _CURRENT).exists() or not (root / "run/systemd/system").is_dir():
        return ok("services", "none: Sitecam isn't installed for systemd here")
    states = {name: _state(name) for name in _UNITS}
    text = ", ".join(f"{name.removeprefix('sitecam-')} {state}" for name, state in states.items())
    night = _state("sitecam-night.service")
    bad = [name for name, state in states.items() if state != "active"]
    if bad:
        return fault("services", f"{text}. sudo systemctl status {' '.join(bad)} says why.")
    if night == "failed":
        return warning("services", f"{text}; the last night failed: journalctl --unit sitecam-night says why.")
    return ok("services", text)


def _differences(lock: Path, environment: Path) -> list[str]:
    """Packages of a lock that are there in another version; those that aren't there are for other systems."""
    folders = sorted(environment.glob("lib/python*/site-packages"))
    if not folders:
        return ["the environment is not there"]
    found = {
        _plain(each.metadata["Name"]): each.version for each in importlib.metadata.distributions(path=[str(folders[0])])
    }
    wanted: dict[str, set[str]] = {}
    for name, version, _ in _PINNED.findall(lock.read_text(encoding="utf-8")):
        wanted.setdefault(_plain(name), set()).add(version)  # more than one: which, depends on the Python
    return [
        f"{name} {found[name]} instead of {' or '.join(sorted(versions))}"
        for name, versions in wanted.items()
        if name in found and found[name] not in versions
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _state(unit: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", "is-active", unit], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
