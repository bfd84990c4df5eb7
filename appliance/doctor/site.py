"""Where the camera belongs: fleet, server, model, labelled frames, night, page and its certificate."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import socket
import sqlite3
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from appliance.alone import SENTENCE, fleet_of
from appliance.config import Settings
from appliance.doctor.finding import Finding, fault, ok, warning
from appliance.errors import StoreError
from appliance.join_code import address, short
from appliance.models.shelf import Shelf
from appliance.models.verdict import newest_verdict
from appliance.night_status import read_night_status
from appliance.night_window import next_window, window_at
from appliance.page_tls import certificate_state
from appliance.paths import CameraPaths
from appliance.status import Status

_TIMEOUT_S = 5.0
_APART_S = 4.0  # a server refuses what was signed more than five seconds in its future
_DAYS = 30
_SILENT_BEHIND = (502, 503, 504)


def fleet(settings: Settings) -> Finding:
    """Whether it belongs to one, and until when that one's authority counts."""
    paths = CameraPaths(settings.state_dir)
    found = fleet_of(paths)
    if found is None:
        return warning("fleet", SENTENCE)
    authority = x509.load_pem_x509_certificate((paths.fleet / "ca.pem").read_bytes())
    ends = authority.not_valid_after_utc
    text = f"{found.name}; its authority counts until {ends:%Y-%m-%d}"
    if ends < datetime.now(UTC) + timedelta(days=_DAYS):
        return warning("fleet", f"{text}: the server must be made anew before that, and cameras enrolled again.")
    return ok("fleet", text)


def server(settings: Settings) -> Finding:
    """Whether its server answers, with the fleet's certificate and a clock like ours."""
    paths = CameraPaths(settings.state_dir)
    found = fleet_of(paths)
    if found is None:
        return ok("server", "none: it belongs to no fleet")
    host, port = found.address
    context = ssl.create_default_context(cafile=str(paths.fleet / "ca.pem"))
    connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.connect()
        certificate = connection.sock.getpeercert()
        connection.request("GET", "/v1/fleet/")
        answer = connection.getresponse()
        said = answer.headers.get("Date", "")
    except ssl.SSLCertVerificationError as error:
        return fault(
            "server",
            f"{host}:{port} shows a certificate that this fleet's authority did not sign ({error.verify_message})."
            " Check the address and the clock; if the server was made anew, enrol this camera again.",
        )
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        return warning("server", f"{host}:{port} can't be reached ({reason}). Days go on; nights won't train.")
    finally:
        connection.close()
    if answer.status in _SILENT_BEHIND:
        return warning(
            "server",
            f"the proxy on {host}:{port} answers, and the SuperLink behind it does not (HTTP status {answer.status})."
            " Days go on; nights won't train. On the server: sudo systemctl status sitecam-superlink.",
        )
    text = f"answers on {host}:{port}{_until(certificate)}"
    apart_s = _apart_s(said)
    if abs(apart_s) > _APART_S:
        way = "ahead of" if apart_s > 0 else "behind"
        return warning(
            "server",
            f"{text}; this clock is {abs(apart_s):.0f} s {way} its clock: let both set theirs by a time server.",
        )
    return ok("server", text)


def model(settings: Settings) -> Finding:
    """Which one should run, whether it is whole, and what became of a newer one."""
    paths = CameraPaths(settings.state_dir)
    found = fleet_of(paths)
    if found is None:
        return warning("model", "none: it belongs to no fleet, so it watches for nothing.")
    shelf = Shelf(paths.models, found.signing_key)
    version = shelf.current
    if version is None:
        return fault("model", "No model is active: enrol this camera again with its bundle.")
    manifest = shelf.manifest(version)
    for part in manifest.needed.values():
        shelf.part(part)
    text = f"version {version}: {', '.join(manifest.labels)}; signature and parts are good"
    newest = newest_verdict(paths.models)
    if newest is not None and not newest.accepted:
        state = "is quarantined" if newest.final else "waits"
        return warning("model", f"{text}. Version {newest.version} {state}: {newest.reason}")
    return ok("model", text)


def store(settings: Settings) -> Finding:
    """Whether there are enough labelled frames to learn from."""
    train, test = _labelled(CameraPaths(settings.state_dir).store / "frames.sqlite")
    text = f"{train} labelled frames to learn from, {test} to test with"
    if train < settings.night.min_frames:
        return warning("store", f"{text}. It trains from {settings.night.min_frames} on: label some more.")
    return ok("store", text)


def night(settings: Settings) -> Finding:
    """When it trains, and how it went the last time."""
    begins, ends, zone = settings.night.begins, settings.night.ends, settings.page.time_zone
    now = datetime.now(UTC)
    when = "now" if window_at(now, begins, ends, zone) else ""
    when = when or f"next at {next_window(now, begins, ends, zone).begins_utc:%Y-%m-%d %H:%M} UTC"
    text = f"from {begins} to {ends} ({zone}), {when}"
    last = read_night_status(CameraPaths(settings.state_dir).night_status)
    said = f"; the last one: {last.message}" if last.message else ""
    return warning("night", text + said) if last.phase == "failed" else ok("night", text + said)


def page(settings: Settings, running: Status | None = None) -> Finding:
    """Whether it answers."""
    host, port = settings.page.host, settings.page.port
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # asked, not bound
    try:
        socket.create_connection((everywhere.get(host, host), port), timeout=2).close()
        answers = True
    except OSError:
        answers = False
    shown = f"{socket.gethostname().partition('.')[0]}.local" if host in everywhere else host
    where = f"{'https' if settings.page.https else 'http'}://{address(shown, port)}/"
    if answers:
        return ok("page", f"{where} answers")
    if running is not None:
        return fault("page", f"{where} does not answer, and the camera process runs. Restart it, and read its journal.")
    return ok("page", f"{where} is free; sitecam camera will serve it")


def certificate(settings: Settings) -> Finding:
    """Whose the page's is, and until when."""
    if not settings.page.https:
        return ok("certificate", "page.https is off: the page is served on loopback only, as it is")
    found = certificate_state(CameraPaths(settings.state_dir), datetime.now(UTC))
    good = found.kind in ("fleet's", "none") and not found.problem
    shown = f" SHA-256 {short(found.fingerprint)}" if found.fingerprint else ""
    return Finding("certificate", "ok" if good else "warning", f"{found.sentence.rstrip('.')}.{shown}")


def _labelled(path: Path) -> tuple[int, int]:
    """Labelled frames to learn from and to test with.

    Not through FrameStore: opening one sweeps, sets room aside and brings an older release's tables up to date, and a
    doctor changes nothing, least of all while an upgrade only asks whether it may go on.
    """
    if not path.exists():
        return 0, 0
    query = "SELECT split, COUNT(*) FROM frames JOIN scenes ON scene = scenes.id WHERE label IS NOT NULL GROUP BY split"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as rows:
            counts = dict(rows.execute(query).fetchall())
    except sqlite3.Error as error:
        raise StoreError(f"The frame store can't be read ({error})", do="Check the disk") from error
    return int(counts.get("train", 0)), int(counts.get("test", 0))


def _until(certificate: object) -> str:
    if not isinstance(certificate, dict) or "notAfter" not in certificate:
        return ""
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    days = (ends - datetime.now(UTC)).days
    more = ": on the server, sitecam-server init --renew-tls" if days < _DAYS else ""
    return f"; its certificate counts for {days} more days{more}"


def _apart_s(said: str) -> float:
    """How far this clock is ahead of what a Date header says, seconds; 0 where it says nothing."""
    try:
        there = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    return (datetime.now(UTC) - there.astimezone(UTC)).total_seconds()
