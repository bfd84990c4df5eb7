"""HTTPS for the camera's page: a certificate of its own at once, and the fleet's as soon as it can be had.

A thread asks the fleet's server for one, and again when a third of its life is left. While the server can't be
reached, or refuses, it tries again ever more rarely; the page goes on with what it has, and says so.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from appliance.errors import ConfigError, SitecamError
from appliance.files import write_atomically
from appliance.fleet import Fleet, load_fleet, node_signature, read_node_public_key
from appliance.join_client import JoinServer, field
from appliance.join_code import NONCE_BYTES, address, ca_fingerprint
from appliance.ledger import note_page_request
from appliance.page_material import PageMaterial, make_csr, make_own, read_material, take_fleets
from appliance.page_names import objection_to_name, wanted_names
from appliance.page_request import PATH, signed_words
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

CertificateKind = Literal["fleet's", "its own", "runs out", "none"]

RENEW_AT = 1 / 3  # of its life left: of 90 days 30, as Let's Encrypt advises
_LOOK_S = 3600.0  # between two looks at a certificate that is good
_FIRST_RETRY_S = 60.0
_LAST_RETRY_S = 6 * 3600.0  # four times a day: below the server's limit of five


@dataclass(frozen=True)
class CertificateState:
    """How it stands with the page's certificate, for page, doctor and metrics.

    Attributes:
        kind: ``fleet's``, ``its own`` (browsers warn), ``runs out`` (within the last third of its life, and could not
            be renewed yet) or ``none``.
        days_left: Until it runs out; 0 where it has.
        names: In it.
        fingerprint: SHA-256, 64 hex digits; empty where there is none.
        sentence: For people.
        problem: What stood in the way of the last try, in a sentence; empty where nothing did.
    """

    kind: CertificateKind
    days_left: float
    names: tuple[str, ...]
    fingerprint: str
    sentence: str
    problem: str


@dataclass(frozen=True)
class _Tries:
    """What is remembered of asking, in page-certificate.json: ``doctor`` is another process."""

    asked_for: tuple[str, ...] = ()  # when it last succeeded
    left_out: tuple[tuple[str, str], ...] = ()
    failed: int = 0  # times in a row
    problem: str = ""


class PageCertificate:
    """Keeps the page's certificate good. Making one of its own is done when this is made; the rest by a thread.

    Args:
        paths: The camera's.
        names: More names than this machine's own: ``page.names``, and ``page.host``.
        camera: What the camera calls itself.
        on_renewed: Told from the thread that the files have changed; may load them where they are used.
        clock: The time, UTC.

    Raises:
        CertificateError: Key or certificate can't be written.
    """

    def __init__(
        self,
        paths: CameraPaths,
        names: Iterable[str] = (),
        *,
        camera: str,
        on_renewed: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._paths, self._more, self._camera, self._clock = paths, tuple(names), camera, clock
        self.on_renewed = on_renewed
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._keep_own(wanted_names(self._more), starting=True)

    @property
    def key_file(self) -> Path:
        """PEM, mode 0600."""
        return self._paths.page_key

    @property
    def certificate_file(self) -> Path:
        """PEM."""
        return self._paths.page_certificate

    def fingerprint(self) -> str:
        """SHA-256 of the certificate that is shown now, 64 hex digits, for whoever opens the page the first time."""
        return self.state().fingerprint

    def state(self) -> CertificateState:
        """How it stands."""
        return certificate_state(self._paths, self._clock())

    def start(self) -> None:
        """Begin to look after it."""
        self._thread = threading.Thread(target=self._run, name="page-certificate", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a server that is silent at this moment is not waited for."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(1)

    def look(self) -> float:
        """Do what is due.

        Returns:
            Seconds until the next look.
        """
        names = wanted_names(self._more)
        tries = _read_tries(self._paths)
        try:
            material = self._keep_own(names)
            fleet = load_fleet(self._paths.fleet) if (self._paths.fleet / "fleet.json").exists() else None
            asked = tuple(name for name in names if not objection_to_name(name))
            if fleet is None or not self._is_due(material, tries, asked):
                if tries.failed:  # for names that it has no longer
                    _write_tries(self._paths, replace(tries, failed=0, problem=""))
                return _LOOK_S
            if not asked:
                raise ConfigError(
                    "This camera has no name or address that the fleet's authority vouches for",
                    do="Set page.names, to gate-1.local for example",
                )
            left_out = self._ask(fleet, asked)
            _write_tries(self._paths, _Tries(asked_for=asked, left_out=left_out))
        except (SitecamError, OSError) as error:
            return self._failed(tries, error)
        self._renewed()
        return _LAST_RETRY_S  # names may have changed again, but the server signs a few times a day only

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                wait_s = self.look()
            except Exception:
                logger.exception("Looking after the page's certificate failed; the page goes on with what it has")
                wait_s = _LAST_RETRY_S
            self._ended.wait(wait_s)

    def _keep_own(self, names: tuple[str, ...], *, starting: bool = False) -> PageMaterial:
        """See to it that there is a certificate, and that one of our own doesn't run out.

        A changed address makes another of our own at the start only: whoever told their browser to trust this one
        should not be asked again in mid-day.
        """
        material, now = read_material(self._paths), self._clock()
        over = material is None or material.share_left(now) == 0
        if material is not None and not material.fleets:
            over = material.share_left(now) < RENEW_AT or (starting and not set(names) <= set(material.names))
        if material is not None and not over:
            return material
        if material is not None and material.fleets and now < material.begins_utc:
            return material  # the clock is wrong, not the certificate
        made = make_own(self._paths, names, now)
        logger.info("The page has a certificate of its own, SHA-256 %s", made.fingerprint)
        if not starting:
            self._renewed()
        return made

    def _is_due(self, material: PageMaterial, tries: _Tries, asked: tuple[str, ...]) -> bool:
        if not material.fleets or material.share_left(self._clock()) < RENEW_AT:
            return True
        return not set(asked) <= set(tries.asked_for)

    def _ask(self, fleet: Fleet, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Get a certificate from the server; return the names that it left out, and why."""
        authority = (self._paths.fleet / "ca.pem").read_bytes()
        body = {
            "name": self._camera,
            "public_key": read_node_public_key(self._paths),
            "at_utc": self._clock().isoformat(timespec="seconds"),
            "nonce": b64encode(secrets.token_bytes(NONCE_BYTES)).decode(),
            "csr": make_csr(self._paths, names),
        }
        words = signed_words(authority=ca_fingerprint(authority), **body)
        message = {**body, "signature": b64encode(node_signature(self._paths, words)).decode()}
        server = JoinServer(*fleet.door, authority, means="The page keeps the certificate that it has")
        size_bytes = len(json.dumps(message).encode())
        note_page_request(self._paths.ledger, to=address(*fleet.door), size_bytes=size_bytes, names=names)
        answer = server.ask(PATH, message)
        material = take_fleets(self._paths, field(answer, "certificate", str), self._clock())
        logger.info("The page has the fleet's certificate, for %s", ", ".join(material.names))
        left_out = field(answer, "left_out", dict)
        return tuple(sorted((str(name), str(why)) for name, why in left_out.items()))

    def _failed(self, tries: _Tries, error: Exception) -> float:
        """Remember why, and say when to try again: twice as long each time, and never all cameras at once."""
        problem = error.what if isinstance(error, SitecamError) else str(error)
        failed = tries.failed + 1
        logger.warning("The page has no certificate from the fleet yet (try %d): %s", failed, error)
        try:
            _write_tries(self._paths, replace(tries, failed=failed, problem=problem))
        except OSError as refused:
            logger.warning("%s can't be written (%s)", tries_path(self._paths), refused)
        longest = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(failed - 1, 20))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret

    def _renewed(self) -> None:
        try:
            self.on_renewed()
        except Exception:  # whoever it tells, the thread has to go on
            logger.exception("The page's new certificate could not be loaded; it is shown after the next start")


def certificate_state(paths: CameraPaths, now: datetime) -> CertificateState:
    """How it stands with the page's certificate, from what is on disk.

    Raises:
        CertificateError: The files may not be read by this user.
    """
    material, tries = read_material(paths), _read_tries(paths)
    if material is None:
        return CertificateState("none", 0.0, (), "", "The page has no certificate yet; sitecam camera makes it", "")
    days = max(0.0, (material.ends_utc - now) / timedelta(days=1))
    why = f" {tries.problem.rstrip('.')}." if tries.problem else ""
    enrolled = (paths.fleet / "fleet.json").exists()
    kind: CertificateKind
    if material.share_left(now) < RENEW_AT and (material.fleets or not days):
        kind = "runs out"
        sentence = f"The page's certificate runs out in {days:.0f} days and could not be renewed yet.{why}"
        if now < material.begins_utc:
            sentence = f"By this camera's clock the page's certificate does not count yet: check the clock.{why}"
    elif material.fleets:
        kind = "fleet's"
        without = "".join(f" Without {name}: {reason}." for name, reason in tries.left_out)
        sentence = f"The page's certificate is the fleet's, until {material.ends_utc:%Y-%m-%d}.{without}{why}"
    else:
        kind = "its own"
        reason = why or (" The fleet's is asked for." if enrolled else " This camera belongs to no fleet.")
        sentence = f"The page's certificate is this camera's own, so browsers warn: compare the fingerprint.{reason}"
    return CertificateState(kind, days, material.names, material.fingerprint, sentence, tries.problem)


def fleet_authority(paths: CameraPaths) -> tuple[bytes, str] | None:
    """The fleet's authority for people to install on a phone: PEM, and its SHA-256; None before enrolment.

    Raises:
        CertificateError: It can't be read.
    """
    try:
        pem = (paths.fleet / "ca.pem").read_bytes()
    except FileNotFoundError:
        return None
    return pem, ca_fingerprint(pem)


def tries_path(paths: CameraPaths) -> Path:
    """What is remembered of asking the server."""
    return paths.root / "page-certificate.json"


def _read_tries(paths: CameraPaths) -> _Tries:
    try:
        body = json.loads(tries_path(paths).read_bytes())
        left_out = tuple((str(name), str(why)) for name, why in body["left_out"])
        return _Tries(tuple(map(str, body["asked_for"])), left_out, int(body["failed"]), str(body["problem"]))
    except FileNotFoundError:
        return _Tries()
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s can't be read (%s); the server is asked anew", tries_path(paths), error)
        return _Tries()


def _write_tries(paths: CameraPaths, tries: _Tries) -> None:
    write_atomically(tries_path(paths), json.dumps(asdict(tries), indent=1).encode() + b"\n")
