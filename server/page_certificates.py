"""Signs certificates for the pages of the fleet's cameras, and keeps account of them.

``appliance/page_request.py`` draws the protocol, ``appliance/page_names.py`` says which names may be in one. Beside
those rules: no name of the server itself, because cameras trust whoever shows it, and none that stands in another
camera's certificate until that has run out or the camera was revoked. A name that may not be in it is left out with
its reason; the rest is granted.

A certificate counts for 90 days. No list of revoked certificates ever reaches the browsers on a site, so a camera
that was stolen keeps its page's name for that long at most; and a camera asks again when 30 days are left, so that a
server may be down for a month before anybody is warned.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import CertificateError
from appliance.join_code import ca_fingerprint
from appliance.page_names import MAX_NAMES, general_names, names_in, objection_to_name, plain_name
from appliance.page_request import MAX_SKEW_S, signed_words
from server.admission import Admission
from server.certificates import load_authority, names_allowed_by, sign_server_certificate
from server.database import Database
from server.join_messages import bytes_of, garbled, nonce_of, public_key_of, signed_by, text_of
from server.roster import EnrolledCamera

logger = logging.getLogger(__name__)

DAYS = 90
PER_DAY = 5  # certificates for one camera


class _No(Exception):  # noqa: N818  # an answer, not an error
    """A camera gets no certificate."""

    def __init__(self, why: str, *, kind: str = "", do: str = "") -> None:
        super().__init__(why)
        self.why, self.kind, self.do = why, kind or why, do


@dataclass(frozen=True)
class _Granted:
    certificate: x509.Certificate
    names: list[str]
    left_out: dict[str, str]


class PageCertificates:
    """Answers cameras that want a certificate for their page.

    Args:
        admission: Whose cameras they are.
        clock: The time, UTC.
    """

    def __init__(self, admission: Admission, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._admission = admission
        self._paths = admission.paths
        self._clock = clock
        self._database = Database(admission.paths.registry)
        self._lock = threading.Lock()
        self._noted: set[tuple[int, str]] = set()  # refusals in the trail: each once, or a camera could fill it

    def issue(self, message: Any, address: str) -> dict[str, Any]:
        """Sign a certificate for a camera's page.

        Args:
            message: See ``appliance/page_request.py``.
            address: Where it came from, for log and trail.

        Returns:
            ``certificate`` (PEM), ``names`` that are in it, ``left_out``: why others are not, by name.

        Raises:
            ConfigError: The message is not the protocol's.
            CertificateError: The camera gets none, and why.
        """
        name, public_key = text_of(message, "name"), public_key_of(message)
        at_utc, nonce, csr = text_of(message, "at_utc"), nonce_of(message, "nonce"), text_of(message, "csr")
        words = signed_words(
            authority=ca_fingerprint(self._paths.ca_certificate.read_bytes()),
            name=name,
            public_key=public_key,
            at_utc=at_utc,
            nonce=text_of(message, "nonce"),
            csr=csr,
        )
        camera = None
        try:
            if not signed_by(public_key, bytes_of(message, "signature"), words):
                raise _No("The camera does not have the private half of the key that it shows")
            camera = self._known(public_key)
            self._must_belong(camera)
            self._must_be_fresh(at_utc)
            granted = self._sign(camera, nonce, *_read_csr(csr))
        except _No as no:
            raise self._refusal(no, camera, address) from no
        calls_itself = "" if name == camera.name else f" (it calls itself {name[:64]!r})"
        without = f"; without {_listed(granted.left_out)}" if granted.left_out else ""
        self._admission.roster.note(
            "camera",
            f"{camera.name}{calls_itself} got a page certificate for {', '.join(granted.names)} until"
            f" {granted.certificate.not_valid_after_utc:%Y-%m-%d}{without}",
        )
        pem = granted.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return {"certificate": pem, "names": granted.names, "left_out": granted.left_out}

    def _known(self, public_key: str) -> EnrolledCamera:
        for camera in self._admission.roster.cameras(revoked=True):
            if camera.public_key == public_key:
                return camera
        raise _No("This server knows no camera with that key", do="Enrol the camera again")

    def _must_belong(self, camera: EnrolledCamera) -> None:
        if camera.revoked_utc:
            why = f"This camera was revoked: {camera.revoked_why}"
            raise _No(why, do="Enrol it anew if it should belong to the fleet")

    def _must_be_fresh(self, at_utc: str) -> None:
        try:
            asked = datetime.fromisoformat(at_utc)
            if asked.tzinfo is None:
                raise ValueError("it names no time zone")
            asked = asked.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise garbled(f"at_utc: {error}") from error
        now = self._clock()
        if abs((asked - now).total_seconds()) > MAX_SKEW_S:
            why = f"The camera's clock says {asked:%Y-%m-%d %H:%M} UTC, the server's {now:%Y-%m-%d %H:%M} UTC"
            raise _No(why, kind="clock", do="Set the clock that is wrong; the camera tries again by itself")

    def _sign(
        self, camera: EnrolledCamera, nonce: bytes, page_key: ec.EllipticCurvePublicKey, asked: list[str]
    ) -> _Granted:
        """Decide on the names, sign, and write it down: all in one transaction, so that two can't get one name."""
        ca, ca_key = load_authority(self._paths)
        node, now = str(camera.node_id), self._clock()
        with self._database.open() as database:
            database.execute("BEGIN IMMEDIATE")
            (lately,) = database.execute(
                "SELECT count(*) FROM page_certificates WHERE node_id = ? AND issued_utc > ?",
                (node, _iso(now - timedelta(days=1))),
            ).fetchone()
            if lately >= PER_DAY:
                raise _No(f"The camera had {lately} page certificates within a day", do="It may ask again tomorrow")
            names, left_out = self._sorted_out(asked, ca, _holders(database, node, _iso(now)))
            if not names:
                why = f"No name is left for the camera's page: {_listed(left_out)}"
                raise _No(why, kind="names", do="Set page.names on the camera to a name of its own")
            certificate = sign_server_certificate(
                ca,
                ca_key,
                page_key,
                names=general_names(names),
                common_name=f"Sitecam page of {camera.name}",
                now=now,
                days=DAYS,
            )
            row = (
                f"{certificate.serial_number:x}",
                node,
                nonce,
                json.dumps(names),
                _iso(now),
                _iso(certificate.not_valid_after_utc),
                certificate.fingerprint(hashes.SHA256()).hex(),
            )
            try:
                database.execute(
                    "INSERT INTO page_certificates (serial, node_id, nonce, names, issued_utc, expires_utc,"
                    " fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError as error:
                raise _No("This request was answered before") from error
            database.execute("COMMIT")
        return _Granted(certificate, names, left_out)

    def _sorted_out(
        self, asked: list[str], ca: x509.Certificate, holders: dict[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        """The names that may be in it; and why the others may not, by name."""
        servers = self._servers_names()
        objections = {
            name: objection_to_name(name)
            or ("it is the server's own" if name in servers else "")
            or (f"{holders[name]} holds it" if name in holders else "")
            or ("" if names_allowed_by(ca, name) else "this fleet's authority was not made for it")
            for name in asked
        }
        return [name for name, why in objections.items() if not why], {n: why for n, why in objections.items() if why}

    def _servers_names(self) -> set[str]:
        """By which cameras and the proxy ask this server."""
        certificate = x509.load_pem_x509_certificate(self._paths.tls_certificate.read_bytes())
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {*names_in(alternatives), plain_name(self._admission.settings.superlink.host)}

    def _refusal(self, no: _No, camera: EnrolledCamera | None, address: str) -> CertificateError:
        """For the camera; noted on the server too: in the trail if the camera is ours, else only in the log."""
        logger.warning("No page certificate for a camera at %s: %s", address, no.why)
        if camera is not None:
            with self._lock:
                first = (camera.node_id, no.kind) not in self._noted
                self._noted.add((camera.node_id, no.kind))
            if first:
                self._admission.roster.note("camera", f"{camera.name} at {address} got no page certificate: {no.why}")
        return CertificateError(no.why, means="Its page keeps the certificate that it has", do=no.do)


def _holders(database: sqlite3.Connection, node: str, now: str) -> dict[str, str]:
    """Whose the names in other cameras' certificates are."""
    rows = database.execute(
        "SELECT c.name, p.names FROM page_certificates AS p JOIN cameras AS c ON c.node_id = p.node_id"
        " WHERE p.node_id != ? AND p.expires_utc > ? AND c.revoked_utc IS NULL",
        (node, now),
    ).fetchall()
    return {name: camera for camera, names in rows for name in json.loads(names)}


def _read_csr(pem: str) -> tuple[ec.EllipticCurvePublicKey, list[str]]:
    """The page's key, and the names that it asks for."""
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        alternatives = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = list(dict.fromkeys(names_in(alternatives)))
        good, key = csr.is_signature_valid, csr.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise garbled(f"csr: {error}") from error
    if not good or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise garbled("csr: it must hold a P-256 key, and be signed with it")
    if not 1 <= len(names) <= MAX_NAMES:
        raise garbled(f"csr: {len(names)} names, not 1 to {MAX_NAMES}")
    return key, names


def _listed(reasons: dict[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in reasons.items())


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
