"""Lets a camera into the fleet: its public key goes to the SuperLink, the fleet's facts go into a bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from appliance.errors import CertificateError, NightError, StoreError
from appliance.files import write_atomically
from appliance.fleet import make_bundle
from appliance.join_code import key_fingerprint
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.store.locks import held
from server.config import ServerSettings
from server.paths import ServerPaths
from server.roster import EnrolledCamera, Roster
from server.superlink import SuperLink

_KEY_CHARACTERS = 1000  # a P-521 key has about 260


def enrol_camera(settings: ServerSettings, superlink: SuperLink, *, name: str, public_key: Path, bundle: Path) -> int:
    """Register a camera whose key came as a file, and write its bundle.

    Args:
        settings: The server's.
        superlink: Running.
        name: As people call the camera; new to the fleet.
        public_key: The file that ``sitecam key`` made on the camera.
        bundle: Where the bundle goes; nothing in it is secret.

    Returns:
        Flower's node id.

    Raises:
        CertificateError: The key can't be used, or name or key is known already.
        NightError: The SuperLink doesn't answer.
    """
    try:
        text = read_key(public_key.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"{public_key} is not a camera's public key ({error})",
            means="The camera was not enrolled",
            do="Run sitecam key on the camera and copy the file it names",
        ) from error
    roster = Roster(ServerPaths(settings.state_dir).registry)
    objection = objection_to(roster, name, text)
    if objection:
        raise CertificateError(objection, means="Nothing was changed", do="Choose another name or key")
    _must_answer(superlink)
    write_atomically(bundle, fleet_bundle(settings))
    try:
        camera = let_in(settings, superlink, roster, name=name, public_key=text)
    except BaseException:
        bundle.unlink()
        raise
    roster.note("command line", f"{name} was enrolled by file")
    return camera.node_id


def read_key(text: str) -> str:
    """A camera's public key in its one form: OpenSSH's, one line, without comment.

    Raises:
        ValueError: It is no elliptic-curve key.
    """
    words = text.split()
    if len(text) > _KEY_CHARACTERS or len(words) < 2:
        raise ValueError("it is no OpenSSH key")
    line = " ".join(words[:2])
    try:
        key = load_ssh_public_key(line.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("it holds another kind of key")
    return line


def objection_to(roster: Roster, name: str, public_key: str) -> str:
    """Why a camera of this name and key can't be let in, in a sentence; empty where it can."""
    for camera in roster.cameras(revoked=True):
        if camera.public_key == public_key and camera.revoked_utc:
            return f"This key was {camera.name}'s and was revoked: {camera.revoked_why}"
        if camera.public_key == public_key:
            return f"A camera with this key, {camera.name}, is enrolled already"
        if camera.name == name and not camera.revoked_utc:
            return f"A camera named {name} is enrolled already"
    return ""


def let_in(
    settings: ServerSettings, superlink: SuperLink, roster: Roster, *, name: str, public_key: str
) -> EnrolledCamera:
    """Make a camera a member: its key goes to the SuperLink, then its name into the roster.

    One at a time, and safe to repeat: what was cut off between the two is completed.

    Args:
        settings: The server's.
        superlink: Running.
        roster: The fleet's.
        name: As people call the camera.
        public_key: As :func:`read_key` gives it.

    Raises:
        StoreError: The name is another camera's, or the key was revoked.
        NightError: The SuperLink doesn't answer or refused.
    """
    _must_answer(superlink)
    superlink.prepare()
    folder = ServerPaths(settings.state_dir).flower
    folder.mkdir(exist_ok=True)
    with held(folder):
        for camera in roster.cameras():
            if camera.name == name and camera.public_key == public_key:
                return camera
        objection = objection_to(roster, name, public_key)
        if objection:
            raise StoreError(objection, means="Nothing was changed", do="Refuse it, or revoke the camera that it was")
        node_id = _registered(superlink, public_key)
        if node_id is None:
            with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
                file.write(f"{public_key}\n")
                file.flush()
                node_id = superlink.register(Path(file.name), name)
        roster.enrol(node_id, name, public_key)
    return roster.camera(name)


def fleet_bundle(settings: ServerSettings) -> bytes:
    """What a new camera of this fleet needs, with the version that runs; nothing in it is secret.

    Raises:
        SitecamError: The server's own files can't be read.
    """
    paths = ServerPaths(settings.state_dir)
    shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
    version = shelf.current or 1
    manifest, signature = shelf.signed_manifest(version)
    return make_bundle(
        name=settings.fleet.name,
        host=settings.superlink.host,
        port=settings.proxy.port or settings.superlink.port,
        door_port=settings.proxy.port or settings.page.port,
        certificate_authority=paths.ca_certificate.read_bytes(),
        signing_key=paths.signing_public.read_bytes(),
        manifest=manifest,
        signature=signature,
        parts={part.sha256: shelf.part(part) for part in shelf.manifest(version).needed.values()},
    )


def _registered(superlink: SuperLink, public_key: str) -> int | None:
    """The node that an approval registered before it was cut off."""
    fingerprint = key_fingerprint(public_key)
    for node in superlink.registered():
        if node.fingerprint == fingerprint:
            if node.unregistered:
                raise StoreError(
                    "The SuperLink knows this key as unregistered",
                    means="Flower never takes such a key again",
                    do="Remove the keys folder on the camera and let it ask anew: it then makes another key",
                )
            return node.node_id
    return None


def _must_answer(superlink: SuperLink) -> None:
    if not superlink.answers():
        raise NightError(
            "The SuperLink doesn't answer",
            means="The camera can't be registered",
            do="Start it with sitecam-server superlink",
        )
