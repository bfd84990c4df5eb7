"""A camera that belongs to no fleet: what it still does, and what it misses."""

from __future__ import annotations

from typing import Never

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import CertificateError, ModelError
from appliance.fleet import Fleet, load_fleet
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths

_MISSES = ModelError(
    "This camera works alone: no fleet, so no model and no nights",
    do="Enrol it: `sudo sitecam enrol CODE --server https://SERVER:9443`, with what `sitecam-server code` shows there",
)
SENTENCE = str(_MISSES)  # systemd shows 200 characters


def fleet_of(paths: CameraPaths) -> Fleet | None:
    """The camera's fleet; None where it was never enrolled.

    Raises:
        CertificateError: It was, and a file of it is damaged or gone.
    """
    return load_fleet(paths.fleet) if (paths.fleet / "fleet.json").exists() else None


def shelf_of(paths: CameraPaths, fleet: Fleet | None) -> Shelf:
    """The camera's models. Without a fleet nothing can come onto the shelf: nobody has the key that would sign it."""
    return Shelf(paths.models, fleet.signing_key if fleet else _nobodys_key())


def no_model() -> Never:
    """What the live loop of such a camera gets instead of a model.

    Raises:
        ModelError: Always; it says what the camera misses.
    """
    raise ModelError(_MISSES.what, do=_MISSES.do)


def was_enrolled(paths: CameraPaths) -> bool:
    """Whether a camera that began alone has a fleet and a model by now."""
    try:
        fleet = fleet_of(paths)
    except CertificateError:
        return False  # half-written; the next look finds it whole
    return fleet is not None and shelf_of(paths, fleet).current is not None


def _nobodys_key() -> Ed25519PublicKey:
    return Ed25519PrivateKey.generate().public_key()
