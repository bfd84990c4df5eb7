"""Looks at a camera and says what is wrong with it, and what to do."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from appliance import litert
from appliance.camera.opening import open_source
from appliance.config import Settings
from appliance.errors import SitecamError
from appliance.fleet import load_fleet
from appliance.join_code import short
from appliance.models.shelf import Shelf
from appliance.models.verdict import newest_verdict
from appliance.page_tls import certificate_state
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore

State = Literal["ok", "warning", "fault"]

_LOW_DISK_BYTES = 500 * 2**20


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Which thing.
        state: How it is.
        text: What was found, and what to do where it isn't ok.
    """

    what: str
    state: State
    text: str

    def line(self) -> str:
        """For a terminal."""
        return f"{self.state:<8} {self.what:<12} {self.text}"


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; one fault doesn't hide the next."""
    checks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("runtime", _runtime),
        ("camera", _camera),
        ("fleet", _fleet),
        ("model", _model),
        ("store", _store),
        ("disk", _disk),
        ("page", _page),
        ("certificate", _certificate),
    ]
    findings = []
    for what, check in checks:
        try:
            findings.append(check(settings))
        except (SitecamError, OSError) as error:
            findings.append(Finding(what, "fault", str(error)))
    return findings


def as_json(findings: list[Finding]) -> str:
    """For programs."""
    return json.dumps([asdict(finding) for finding in findings], indent=1)


def _runtime(_: Settings) -> Finding:
    name = litert.runtime_module().__name__.split(".")[0]
    if importlib.util.find_spec("edge_impulse_linux") is None:
        return Finding("runtime", "fault", "edge_impulse_linux is missing: install Sitecam's camera extra")
    return Finding("runtime", "ok", f"{name}, edge_impulse_linux")


def _camera(settings: Settings) -> Finding:
    if settings.camera.source == "picamera2" and importlib.util.find_spec("picamera2") is None:
        return Finding(
            "camera",
            "fault",
            "picamera2 isn't installed, so there is no picture. On Raspberry Pi OS: sudo apt install"
            " --no-install-recommends python3-picamera2, and make the environment with --system-site-packages."
            ' Elsewhere set camera.source = "folder".',
        )
    source = open_source(settings.camera)
    try:
        source.open()
        frame = source.capture(settings.camera.capture_timeout_s)
    finally:
        source.close()
    height, width = frame.pixels.shape[:2]
    return Finding("camera", "ok", f"{source.name}: one frame of {width} x {height}")


def _fleet(settings: Settings) -> Finding:
    fleet = load_fleet(CameraPaths(settings.state_dir).fleet)
    host, port = fleet.address
    try:
        with socket.create_connection((host, port), timeout=3):
            return Finding("fleet", "ok", f"{fleet.name}; its server answers on {host}:{port}")
    except OSError as error:
        text = f"{fleet.name}'s server {host}:{port} can't be reached ({error}). Days go on; nights won't train."
        return Finding("fleet", "warning", text)


def _model(settings: Settings) -> Finding:
    paths = CameraPaths(settings.state_dir)
    shelf = Shelf(paths.models, load_fleet(paths.fleet).signing_key)
    version = shelf.current
    if version is None:
        return Finding("model", "fault", "No model is active: enrol this camera again with its bundle.")
    manifest = shelf.manifest(version)
    for part in manifest.parts.values():
        shelf.part(part)
    text = f"version {version}: {', '.join(manifest.labels)}; signature and parts are good"
    newest = newest_verdict(paths.models)
    if newest is not None and not newest.accepted:
        state = "is quarantined" if newest.final else "waits"
        return Finding("model", "warning", f"{text}. Version {newest.version} {state}: {newest.reason}")
    return Finding("model", "ok", text)


def _store(settings: Settings) -> Finding:
    folder = CameraPaths(settings.state_dir).store
    counts: dict[str, dict[str, int]] = {}
    if folder.exists():  # looking must not make folders: doctor may run as another user than the service
        with FrameStore(folder) as store:
            counts = store.counts()
    train = counts.get("train", {})
    text = f"{sum(train.values())} labelled frames to learn from, {sum(counts.get('test', {}).values())} to test with"
    if sum(train.values()) < settings.night.min_frames:
        return Finding("store", "warning", f"{text}. It trains from {settings.night.min_frames} on: label some more.")
    return Finding("store", "ok", text)


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.state_dir, *settings.state_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < _LOW_DISK_BYTES:
        return Finding("disk", "warning", f"{free // 2**20} MB free: delete frames, or use a larger card.")
    return Finding("disk", "ok", f"{free // 2**20} MB free")


def _page(settings: Settings) -> Finding:
    with socket.socket() as probe:
        probe.settimeout(2)
        taken = probe.connect_ex((settings.page.host, settings.page.port)) == 0
    where = f"{'https' if settings.page.https else 'http'}://{settings.page.host}:{settings.page.port}/"
    return Finding("page", "ok", f"{where} answers" if taken else f"{where} is free; sitecam camera will serve it")


def _certificate(settings: Settings) -> Finding:
    if not settings.page.https:
        return Finding("certificate", "ok", "page.https is off: the page is served on loopback only, as it is")
    found = certificate_state(CameraPaths(settings.state_dir), datetime.now(UTC))
    good = found.kind in ("fleet's", "none") and not found.problem
    shown = f" SHA-256 {short(found.fingerprint)}" if found.fingerprint else ""
    return Finding("certificate", "ok" if good else "warning", f"{found.sentence.rstrip('.')}.{shown}")
