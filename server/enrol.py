"""Lets a camera into the fleet: its public key goes to the SuperLink, the fleet's facts go into a bundle."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from appliance.errors import CertificateError, NightError
from appliance.fleet import write_bundle
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from server.config import ServerSettings
from server.paths import ServerPaths
from server.registry import Registry
from server.superlink import SuperLink


def enrol_camera(settings: ServerSettings, superlink: SuperLink, *, name: str, public_key: Path, bundle: Path) -> int:
    """Register a camera and write its bundle.

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
    paths = ServerPaths(settings.state_dir)
    try:
        text = public_key.read_text(encoding="ascii").strip()
        key = load_ssh_public_key(text.encode())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{public_key} is not a camera's public key ({error})",
            means="The camera was not enrolled",
            do="Run sitecam key on the camera and copy the file it names",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError(f"{public_key} holds another kind of key", do="Run sitecam key on the camera")
    registry = Registry(paths.registry)
    for camera in registry.cameras():
        if camera.name == name or camera.public_key == text:
            same = f"named {name}" if camera.name == name else f"with this key, {camera.name},"
            raise CertificateError(
                f"A camera {same} is enrolled already", means="Nothing was changed", do="Choose another name or key"
            )
    if not superlink.answers():
        raise NightError(
            "The SuperLink doesn't answer",
            means="The camera can't be registered",
            do="Start it with sitecam-server superlink",
        )
    shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
    version = shelf.current or 1
    manifest, signature = shelf.signed_manifest(version)
    write_bundle(
        bundle,
        name=settings.fleet.name,
        host=settings.superlink.host,
        port=settings.superlink.port,
        certificate_authority=paths.ca_certificate.read_bytes(),
        signing_key=paths.signing_public.read_bytes(),
        manifest=manifest,
        signature=signature,
        parts={part.sha256: shelf.part(part) for part in shelf.manifest(version).parts.values()},
    )
    try:
        superlink.prepare()
        node = superlink.register(public_key, name)
        registry.enrol(node, name, text)
    except BaseException:
        bundle.unlink()
        raise
    return node
