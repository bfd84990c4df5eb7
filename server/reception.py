"""What a camera that wants to join says to the server, and hears: the server's half of the join protocol.

    camera                                       server
    hello     code id, nonce                ->
              (TLS, authority unknown yet)  <-   nonce, fleet, authority, signing key, server_proof
    request   code id, nonces, name, key,   ->
              camera_proof, signature       <-   request id, token | again  (TLS, verified from here on)
    state     request id, token             ->
                                            <-   waiting | refused and why | replaced | approved | unknown
    bundle    request id, token             ->
                                            <-   the bundle's bytes

``appliance/join_code.py`` says what the proofs are over and why they are enough. A nonce of the server counts once,
for the code and the camera's nonce that it was given out with, and for two minutes; those that are out live in this
process's memory: after a restart a camera begins again by itself.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from appliance.errors import CertificateError, SitecamError, StoreError
from appliance.join_code import NONCE_BYTES, camera_proof, key_fingerprint, same, server_proof, short, transcript
from server.admission import Admission
from server.enrol import fleet_bundle, objection_to
from server.enrolment_tables import JoinRequest
from server.join_messages import bytes_of, nonce_of, public_key_of, signed_by, text_of

logger = logging.getLogger(__name__)

NONCE_LIFE_S = 120.0
_MAX_NONCES = 1000
_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class _Greeting:
    code: str
    camera_nonce: bytes
    ends_s: float  # time.monotonic()


class Reception:
    """Answers cameras that want to join.

    Args:
        admission: Where their requests go.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._tables = admission.tables
        self._lock = threading.Lock()
        self._greetings: dict[bytes, _Greeting] = {}
        self._approving: set[int] = set()
        self._said: dict[int, str] = {}

    def hello(self, message: Any, address: str) -> dict[str, str]:
        """Say who we are to a camera that has a code, and prove that we know it too.

        Raises:
            CertificateError: No such code counts.
        """
        code, camera_nonce = text_of(message, "code"), nonce_of(message, "nonce")
        key = self._tables.spend_try(code)
        if key is None:
            raise self._refused(code, address, self._tables.why_dead(code), do="Ask for a new code on the server")
        paths, nonce = self._admission.paths, secrets.token_bytes(NONCE_BYTES)
        ca, signing = paths.ca_certificate.read_bytes(), paths.signing_public.read_bytes()
        self._remember(nonce, _Greeting(code, camera_nonce, time.monotonic() + NONCE_LIFE_S))
        return {
            "nonce": _b64(nonce),
            "fleet": self._admission.settings.fleet.name,
            "ca": ca.decode(),
            "signing": signing.decode(),
            "proof": _b64(server_proof(key, camera_nonce, nonce, ca, signing)),
        }

    def request(self, message: Any, address: str) -> dict[str, Any]:
        """Note that a camera asks to be let in.

        Returns:
            ``request`` and ``token``; or ``again``, where the nonces don't count (any more).

        Raises:
            CertificateError: It doesn't know the code's secret, or can't be let in under this name and key.
        """
        code, name = text_of(message, "code"), text_of(message, "name")
        camera_nonce, server_nonce = nonce_of(message, "camera_nonce"), nonce_of(message, "server_nonce")
        public_key = public_key_of(message)
        greeting = self._take(server_nonce)
        if greeting is None or (greeting.code, greeting.camera_nonce) != (code, camera_nonce):
            logger.warning("A camera at %s came with a nonce that was used, or is too old", address)
            return {"again": True}
        key = self._tables.key(code)
        if key is None:
            raise self._refused(code, address, self._tables.why_dead(code), do="Ask for a new code on the server")
        if not same(bytes_of(message, "proof"), camera_proof(key, camera_nonce, server_nonce, name, public_key)):
            raise self._refused(
                code, address, "The camera does not know this code's secret", do="Type the code once more"
            )
        self._tables.give_try_back(code)
        if not signed_by(
            public_key, bytes_of(message, "signature"), transcript(camera_nonce, server_nonce, name, public_key)
        ):
            raise self._refused(code, address, "The camera does not have the private half of the key that it shows")
        if not 1 <= len(name) <= _NAME_CHARACTERS or not name.isprintable() or name != name.strip():
            raise self._refused(
                code, address, "The camera's name can't be used", do="Set camera.name: 1 to 64 printable characters"
            )
        objection = objection_to(self._admission.roster, name, public_key)
        if objection:
            raise self._refused(
                code,
                address,
                objection,
                do="Give this camera another camera.name; or revoke the old one on the server, remove the keys folder"
                " here, and ask again with a new key",
            )
        token = secrets.token_urlsafe(32)
        number = self._tables.ask(code, name, public_key, address, token)
        if number is None:
            raise self._refused(code, address, "The code was used already", do="Ask for a new code on the server")
        shown = short(key_fingerprint(public_key))
        self._admission.roster.note("camera", f"{name} at {address} asks to be let in (request {number}, key {shown})")
        return {"request": number, "token": token}

    def state(self, number: int, token: str) -> dict[str, str]:
        """What has become of a request; "unknown" where there is none of that number and token."""
        request = self._find(number, token)
        if request is None:
            return {"state": "unknown", "reason": ""}
        revoked = self._revoked(request)
        if revoked:
            return {"state": "refused", "reason": revoked}
        if request.decision is None:
            self._approve_by_code(request)
        return {"state": request.decision or "waiting", "reason": request.reason}

    def bundle(self, number: int, token: str) -> bytes:
        """What a camera needs once it was let in.

        Raises:
            CertificateError: It wasn't.
        """
        request = self._find(number, token)
        if request is None or request.decision != "approved" or self._revoked(request):
            raise CertificateError("This camera was not let in", do="Wait for a person's approval on the server")
        return fleet_bundle(self._admission.settings)

    def _approve_by_code(self, request: JoinRequest) -> None:
        """Let a camera in whose code says so; Flower takes seconds for it, so the camera asks again meanwhile."""
        who = self._tables.approved_by(request.id)
        with self._lock:
            if not who or request.id in self._approving:
                return
            self._approving.add(request.id)
        threading.Thread(target=self._let_in, args=(request, who), name="approve-by-code", daemon=True).start()

    def _let_in(self, request: JoinRequest, who: str) -> None:
        try:
            self._admission.approve(request.id, who=who, by_code=True)
        except StoreError as error:
            if isinstance(error.__cause__, sqlite3.Error):
                self._say_not_yet(request, error)
            else:  # its name or key was taken meanwhile, or a person decided: asking again would not help
                self._send_away(request, error, who)
        except (SitecamError, OSError) as error:
            self._say_not_yet(request, error)
        finally:
            with self._lock:
                self._approving.discard(request.id)

    def _send_away(self, request: JoinRequest, why: StoreError, who: str) -> None:
        try:
            self._admission.refuse(request.id, why.what, who=who)
        except StoreError as error:
            logger.warning("%s, who came with a code that approves: %s", request.name, error)

    def _say_not_yet(self, request: JoinRequest, error: Exception) -> None:
        """Cameras ask every few seconds: the same reason is logged once."""
        if self._said.get(request.id) != str(error):
            self._said = {request.id: str(error)}
            logger.error("%s can't be let in yet, and is tried again when it asks again: %s", request.name, error)

    def _find(self, number: int, token: str) -> JoinRequest | None:
        return self._tables.request_of(number, token) if number < 2**63 else None  # more is no number to SQLite

    def _revoked(self, request: JoinRequest) -> str:
        if request.decision != "approved":
            return ""
        for camera in self._admission.roster.cameras(revoked=True):
            if camera.node_id == request.node_id:
                return f"It was revoked: {camera.revoked_why}" if camera.revoked_utc else ""
        return ""

    def _refused(self, code: str, address: str, why: str, *, do: str = "") -> CertificateError:
        """The refusal, noted on the server too: in the trail if the code was ours, else only in the log."""
        why = why or "The code does not count any more"
        logger.warning("Refused a camera at %s: %s", address, why)
        if self._tables.key(code) is not None:
            self._admission.roster.note("camera", f"A camera at {address} with code {code}-... was refused: {why}")
        return CertificateError(why, means="This camera was not enrolled", do=do)

    def _remember(self, nonce: bytes, greeting: _Greeting) -> None:
        with self._lock:
            now = time.monotonic()
            for old in [each for each, kept in self._greetings.items() if kept.ends_s < now]:
                del self._greetings[old]
            while len(self._greetings) >= _MAX_NONCES:
                del self._greetings[next(iter(self._greetings))]  # the oldest: dicts keep their order
            self._greetings[nonce] = greeting

    def _take(self, nonce: bytes) -> _Greeting | None:
        with self._lock:
            greeting = self._greetings.pop(nonce, None)
        return greeting if greeting and greeting.ends_s >= time.monotonic() else None


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
