"""Joins a fleet with a code: checks the server, asks, waits for a person's approval, and enrols with the bundle.

The camera's half of the protocol that ``server/reception.py`` draws. What it has agreed on with the server so far
stands in ``joining.json`` in the state folder, so that after Ctrl-C, a power cut or a server's restart the same
command goes on with the same request.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.errors import CertificateError, ConfigError
from appliance.files import write_atomically
from appliance.fleet import enrol, load_fleet, node_signature, read_node_public_key
from appliance.join_client import JoinServer, bytes_field, field
from appliance.join_code import (
    NONCE_BYTES,
    Invitation,
    address,
    ca_fingerprint,
    camera_proof,
    key_fingerprint,
    same,
    server_proof,
    short,
    transcript,
)
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # a server that was restarted between hello and request has forgotten the hello


@dataclass(frozen=True)
class Pending:
    """A request that waits for a person.

    Attributes:
        host: The server's.
        port: Likewise.
        code: The code's public name.
        name: What this camera called itself.
        fleet: What the server calls its fleet.
        ca: The fleet's authority, PEM; proved by the code.
        signing: The key that signs its models, PEM; likewise.
        request: The request's number.
        token: Says that it is ours.
    """

    host: str
    port: int
    code: str
    name: str
    fleet: str
    ca: str
    signing: str
    request: int
    token: str


def pending_path(paths: CameraPaths) -> Path:
    """Where the request stands while it waits."""
    return paths.root / "joining.json"


def join(
    paths: CameraPaths,
    invitation: Invitation,
    *,
    name: str,
    say: Callable[[str], None],
    wait_s: float,
    poll_s: float = 3.0,
) -> int:
    """Join the fleet that made the invitation.

    Args:
        paths: The camera's.
        invitation: What the server showed.
        name: What people call this camera.
        say: Told each step, in a sentence.
        wait_s: How long to wait for approval.
        poll_s: Between two looks whether it has come.

    Returns:
        The version that runs from now on.

    Raises:
        ConfigError: The server can't be reached, or isn't one.
        CertificateError: It doesn't know the code, or is another; or it refuses this camera, and why; or nobody
            approved in time; or this camera belongs to another server's fleet already (of the same one's it says so).
        ModelError: See :func:`appliance.fleet.enrol`.
    """
    if (paths.fleet / "fleet.json").exists():
        return _member(paths, invitation, say)
    pending = _load(paths)
    wanted = (invitation.host, invitation.port, invitation.code.id, name)
    if pending and (pending.host, pending.port, pending.code, pending.name) == wanted:
        say("Going on with the request that was made before")
    else:
        pending = _ask(paths, invitation, name, say)
    _wait(paths, pending, say, wait_s, poll_s)
    version = _fetch_and_enrol(paths, pending)
    pending_path(paths).unlink()
    return version


def _member(paths: CameraPaths, invitation: Invitation, say: Callable[[str], None]) -> int:
    """The version of a camera that is enrolled already, by the very server that the invitation names."""
    fleet = load_fleet(paths.fleet)
    version = Shelf(paths.models, fleet.signing_key).current
    same_server = fleet.door == (invitation.host, invitation.port)
    if not same_server and invitation.fingerprint:
        same_server = invitation.fingerprint == ca_fingerprint((paths.fleet / "ca.pem").read_bytes())
    folders = f"{paths.fleet}, {paths.models} and {paths.node_key.parent}"
    if not same_server or version is None:
        raise CertificateError(
            f"This camera belongs to {fleet.name} at {address(*fleet.door)} already",
            means="Nothing was changed",
            do=f"If it should move, remove {folders} first",
        )
    say(f"It is enrolled already; the code was not used. If the server has put it out, remove {folders} first")
    return version


def _wait(paths: CameraPaths, pending: Pending, say: Callable[[str], None], wait_s: float, poll_s: float) -> None:
    """Return once a person has let this camera in."""
    say(
        f"Waiting to be let in (request {pending.request}). Where the code alone does not do it, a person has to"
        f" approve {pending.name} on the server"
    )
    ends = time.monotonic() + wait_s
    before = "waiting"
    while (answer := _state(pending))["state"] in ("waiting", "unreachable"):
        if answer["state"] != before:
            before = answer["state"]
            say("The server can't be reached; going on trying" if before == "unreachable" else "It answers again")
        if time.monotonic() > ends:
            raise CertificateError(
                f"Nobody approved this camera within {wait_s / 60:g} min",
                means="Its request still waits on the server",
                do="Have it approved there, then run the same command again",
            )
        time.sleep(poll_s)
    state, reason = answer.get("state"), answer.get("reason")
    if state == "approved":
        return
    pending_path(paths).unlink()
    why = {"unknown": "it has no such request", "replaced": "this camera has asked again since"}.get(
        str(state), f"{reason or 'no reason was given'}"
    )
    raise CertificateError(
        f"The server did not let this camera in: {why}",
        means="It was not enrolled",
        do="Ask for a new code on the server, and run sitecam enrol with it",
    )


def _ask(paths: CameraPaths, invitation: Invitation, name: str, say: Callable[[str], None]) -> Pending:
    """Say hello, check who answers, and ask to be let in."""
    public_key = read_node_public_key(paths)
    key = invitation.code.key()
    for _ in range(_ATTEMPTS):
        nonce = secrets.token_bytes(NONCE_BYTES)
        say(f"Asking {address(invitation.host, invitation.port)}")
        fleet = _hello(invitation, key, nonce)
        say(f"It knows the code. Its fleet is {fleet.name}")
        say(f"The fleet's authority: {short(ca_fingerprint(fleet.ca))}. The server must show the same")
        say(f"This camera's key: {short(key_fingerprint(public_key))}")
        answer = JoinServer(invitation.host, invitation.port, fleet.ca).ask(
            "request",
            {
                "code": invitation.code.id,
                "name": name,
                "public_key": public_key,
                "camera_nonce": _b64(nonce),
                "server_nonce": _b64(fleet.nonce),
                "proof": _b64(camera_proof(key, nonce, fleet.nonce, name, public_key)),
                "signature": _b64(node_signature(paths, transcript(nonce, fleet.nonce, name, public_key))),
            },
        )
        if answer.get("again"):
            continue
        pending = Pending(
            host=invitation.host,
            port=invitation.port,
            code=invitation.code.id,
            name=name,
            fleet=fleet.name,
            ca=fleet.ca.decode(),
            signing=fleet.signing.decode(),
            request=field(answer, "request", int),
            token=field(answer, "token", str),
        )
        write_atomically(pending_path(paths), json.dumps(asdict(pending), indent=1).encode(), mode=0o600)
        return pending
    raise CertificateError(
        "The server forgets this camera between hello and request",
        means="This camera was not enrolled",
        do="Read the server's log; then run the same command again",
    )


@dataclass(frozen=True)
class _Fleet:
    name: str
    nonce: bytes
    ca: bytes
    signing: bytes


def _hello(invitation: Invitation, key: bytes, nonce: bytes) -> _Fleet:
    """Who answers there, once it has proved that it knows the code's secret."""
    answer = JoinServer(invitation.host, invitation.port, None).ask(
        "hello", {"code": invitation.code.id, "nonce": _b64(nonce)}
    )
    fleet = _Fleet(
        field(answer, "fleet", str),
        bytes_field(answer, "nonce"),
        field(answer, "ca", str).encode(),
        field(answer, "signing", str).encode(),
    )
    if not same(bytes_field(answer, "proof"), server_proof(key, nonce, fleet.nonce, fleet.ca, fleet.signing)):
        raise CertificateError(
            "The server does not know this code's secret",
            means="The code was mistyped, it is another server's, or somebody is in between; nothing was sent to it",
            do="Compare code and address with what the server shows, and type them once more",
        )
    if invitation.fingerprint not in ("", ca_fingerprint(fleet.ca)):
        raise CertificateError(
            "The server's authority is not the one that the invitation names",
            means="It is another server, or it was made anew since; nothing was sent to it",
            do="Have the server show a new code",
        )
    return fleet


def _state(pending: Pending) -> dict[str, Any]:
    """What the server says of the request; "unreachable" while it says nothing."""
    server = JoinServer(pending.host, pending.port, pending.ca.encode())
    try:
        return server.ask(f"request/{pending.request}", token=pending.token)
    except ConfigError:
        return {"state": "unreachable"}


def _fetch_and_enrol(paths: CameraPaths, pending: Pending) -> int:
    file = paths.root / "joining.bundle"
    server = JoinServer(pending.host, pending.port, pending.ca.encode())
    try:
        server.fetch(f"request/{pending.request}/bundle", file, token=pending.token)
        return enrol(paths, file, expected={"ca.pem": pending.ca.encode(), "signing.pem": pending.signing.encode()})
    finally:
        file.unlink(missing_ok=True)


def _load(paths: CameraPaths) -> Pending | None:
    try:
        return Pending(**json.loads(pending_path(paths).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s can't be read (%s); this camera asks anew", pending_path(paths), error)
        return None


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
