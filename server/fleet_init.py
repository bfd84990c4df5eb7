"""Makes a fleet: certificates, signing key, and version 1 of the model (backbone and an untrained head), signed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import SignatureError
from appliance.files import write_atomically
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key, load_signing_key, new_signing_key, public_pem
from appliance.store.frames import FrameStore
from appliance.vision import InputSpec
from server.backbone import representative_pictures, resolve, trainer_part
from server.certificates import check_certificate, make_certificates, renew_tls
from server.config import ServerSettings
from server.paths import ServerPaths
from server.registry import Registry

SIZE = 160  # pixels: what trainer/graphs.py builds
FEATURE_COUNT = 1280
_SEED = 1


def make_fleet(settings: ServerSettings, *, cache: Path | None = None, say: Callable[[str], None]) -> Manifest:
    """Make what is missing; a second call changes nothing.

    Args:
        settings: The server's.
        cache: Where converted graphs are kept; default: inside the state folder.
        say: Told each step.

    Returns:
        The manifest of the version that runs.

    Raises:
        SitecamError: With what to do; a later call goes on where this one stopped.
    """
    paths = ServerPaths(settings.state_dir)
    paths.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not paths.ca_certificate.exists():
        say("certificate authority and TLS certificate")
        make_certificates(paths, fleet=settings.fleet.name, host=settings.superlink.host)
    elif not paths.tls_certificate.exists():  # a new authority would mean enrolling every camera again
        say("TLS certificate")
        renew_tls(paths, host=settings.superlink.host)
    check_certificate(paths)
    if not paths.signing_key.exists():
        if paths.signing_public.exists():
            raise SignatureError(
                f"The signing key {paths.signing_key} is gone",
                means="No new model can be signed, and cameras take none signed by another key",
                do="Restore it from the server's backup",
            )
        say("signing key")
        new_signing_key(paths.signing_key)
    if not paths.signing_public.exists():
        public = load_signing_key(paths.signing_key).public_key()
        write_atomically(paths.signing_public, public_pem(public))
    Registry(paths.registry)
    FrameStore(paths.store).close()
    shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
    shelf.sweep()
    if shelf.current is None and shelf.versions():  # the power went between accepting and activating it
        shelf.activate(shelf.versions()[-1])
    if shelf.current is None:
        say("version 1 of the model")
        _first_version(settings, paths, shelf, cache or paths.root / "cache", say)
    return shelf.manifest(shelf.current or 1)


def _first_version(
    settings: ServerSettings, paths: ServerPaths, shelf: Shelf, cache: Path, say: Callable[[str], None]
) -> None:
    fleet = settings.fleet
    weights = fleet.backbone if fleet.backbone != Path() else None
    spec = InputSpec(SIZE, SIZE, fleet.resize_mode)
    pictures = representative_pictures(fleet.representative, spec, say) if fleet.precision == "int8" else None
    backbone = resolve(weights, cache, say, pictures).graph
    trainer = trainer_part(FEATURE_COUNT, len(fleet.labels), fleet.hidden_units, cache)
    head = Head.untrained(FEATURE_COUNT, len(fleet.labels), fleet.hidden_units, seed=_SEED).to_bytes()
    contents = {"backbone": backbone, "head": head, "trainer": trainer}
    sizes = ", ".join(f"{role} {len(data) / 1000:,.0f} kB" for role, data in contents.items())
    say(f"  {fleet.precision}: {sizes}")
    manifest = Manifest(
        fleet=fleet.name,
        version=1,
        parent=None,
        labels=fleet.labels,
        input=spec,
        hidden_units=fleet.hidden_units,
        feature_count=FEATURE_COUNT,
        parts={role: Part.of(data) for role, data in contents.items()},
        metrics={},
        night=None,
        created_utc=datetime.now(UTC).replace(microsecond=0),
    )
    text = manifest.to_bytes()
    signature = load_signing_key(paths.signing_key).sign(text)
    shelf.accept(text, signature, {Part.of(data).sha256: data for data in contents.values()})
    shelf.activate(1)
