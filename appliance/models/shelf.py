"""The shelf of model versions that a machine holds: parts, signed manifests, and which one runs.

    models/
      parts/<sha256>           content-addressed, shared by versions
      versions/<n>/            manifest.json, manifest.sig, impulse.eim (where this machine assembled one)
      verdicts/<n>.json        what this camera made of version n
      current, previous        which version runs, which ran before it
      highest                  the highest version ever accepted: the network can't bring back an older one
      offered                  the version that waits to be swapped in
      factory                  the version that enrolment brought: where `sitecam recover` goes
      local.pem                checks the signatures of local versions, see appliance/models/foreign.py
      trial.json               the swap under way, see appliance/models/trial.py

Every pointer is a one-line file, replaced atomically; night and camera processes share the folder.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.errors import ManifestError, ModelError, PartError
from appliance.files import sweep_temporaries, sync_folder, write_atomically
from appliance.models.manifest import FIRST_LOCAL, Manifest, Part, is_local
from appliance.models.signing import load_public_key, verify
from appliance.models.verdict import standing_verdict

logger = logging.getLogger(__name__)


class Shelf:
    """The model versions of one machine.

    Args:
        root: The ``models`` folder; made where it is missing.
        fleet_key: The fleet's public signing key; nothing unsigned ever gets onto the shelf.
    """

    def __init__(self, root: Path, fleet_key: Ed25519PublicKey) -> None:
        self.root = root
        self._fleet_key = fleet_key
        for name in ("parts", "versions", "verdicts"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process left behind. Call it where no other process is writing."""
        for folder in (self.root, self.root / "parts", self.root / "verdicts"):
            sweep_temporaries(folder)
        for folder in (self.root / "versions").iterdir():
            if folder.name.startswith("."):
                shutil.rmtree(folder)
            else:
                sweep_temporaries(folder)

    def tidy(self) -> None:
        """Remove the assembled ``.eim`` files, 9 MB each, of versions that nobody goes back to in a hurry.

        Their parts stay: any of them can be assembled again.
        """
        wanted = {self.current, self.previous, self.factory, self.offered}
        for version in self.versions():
            if version not in wanted:
                for path in self.impulse_path(version).parent.glob("impulse.*"):
                    path.unlink(missing_ok=True)

    # What is there

    def versions(self) -> list[int]:
        """All versions on the shelf, rising."""
        return sorted(int(path.name) for path in (self.root / "versions").iterdir() if path.name.isdigit())

    def manifest(self, version: int) -> Manifest:
        """The manifest of a version, its signature checked again.

        Raises:
            ModelError: The version isn't on the shelf, or was changed on disk.
        """
        return Manifest.from_bytes(self.signed_manifest(version)[0])

    def signed_manifest(self, version: int) -> tuple[bytes, bytes]:
        """Manifest and signature, byte for byte as the fleet signed them.

        Raises:
            ModelError: The version isn't on the shelf, or was changed on disk.
        """
        folder = self.root / "versions" / str(version)
        try:
            manifest = (folder / "manifest.json").read_bytes()
            signature = (folder / "manifest.sig").read_bytes()
        except OSError as error:
            raise ModelError(
                f"Version {version} is not on the shelf ({error.strerror})",
                do=f"Versions here: {', '.join(map(str, self.versions())) or 'none'}",
            ) from error
        if is_local(version):
            self._verify_local(manifest, signature)
        else:
            verify(manifest, signature, self._fleet_key)
        return manifest, signature

    def _verify_local(self, manifest: bytes, signature: bytes) -> None:
        try:
            key = load_public_key(self.local_key.read_bytes())
        except OSError as error:
            raise ModelError(
                f"The key of this camera's local versions can't be read ({error.strerror})",
                means="They can't be used; another version runs",
                do="Add the .eim again: `sitecam models add FILE.eim`",
            ) from error
        verify(manifest, signature, key, whose="this camera's own")

    @property
    def local_key(self) -> Path:
        """Where the public half of the key that signs local versions lies."""
        return self.root / "local.pem"

    def part(self, part: Part) -> bytes:
        """A part's content.

        Raises:
            PartError: It is missing, or not what its hash says.
        """
        try:
            data = (self.root / "parts" / part.sha256).read_bytes()
        except OSError as error:
            raise PartError(
                f"Part {part.sha256[:12]} is missing ({error.strerror})",
                means="The version that needs it can't be assembled",
                do="Wait for the next night, which sends it again",
            ) from error
        _check(part, data)
        return data

    def impulse_path(self, version: int) -> Path:
        """Where the assembled ``.eim`` of a version lies, or will lie."""
        return self.root / "versions" / str(version) / "impulse.eim"

    def discard_damaged(self, part: Part) -> None:
        """Remove a part that isn't what its hash says, so that the next night sends it again."""
        path = self.root / "parts" / part.sha256
        if path.is_file() and Part.of(path.read_bytes()) != part:
            path.unlink()

    def missing(self, manifest: Manifest) -> list[Part]:
        """The parts of a manifest that this shelf lacks."""
        return [part for part in manifest.needed.values() if not self.has(part.sha256)]

    def has(self, sha256: str) -> bool:
        """Whether a part is here."""
        return (self.root / "parts" / sha256).is_file()

    def digests(self) -> list[str]:
        """The SHA-256 of every part on the shelf, sorted."""
        return sorted(path.name for path in (self.root / "parts").iterdir() if len(path.name) == 64)

    # How a version gets here

    def accept(self, manifest: bytes, signature: bytes, parts: Mapping[str, bytes]) -> Manifest:
        """Put a version on the shelf: signature, then version, then every part's hash, then the disk.

        Args:
            manifest: As signed.
            signature: The fleet's, 64 bytes.
            parts: Content by SHA-256; those already on the shelf may be left out.

        Returns:
            The manifest read.

        Raises:
            SignatureError: Not signed by this fleet.
            ManifestError: Unreadable, or not newer than what was accepted before.
            PartError: A part is missing or damaged.
            OSError: The disk refused. In every case the shelf is as it was.
        """
        verify(manifest, signature, self._fleet_key)
        read = Manifest.from_bytes(manifest)
        highest = self.highest
        if is_local(read.version):
            raise ManifestError(
                f"Version {read.version} has the number of a camera's own, but came over the network",
                means="It isn't used; the running model stays",
            )
        if read.version <= highest:
            raise ManifestError(
                f"Version {read.version} is not newer than version {highest}, which this machine has had",
                means="An old model may not come back over the network; the running model stays",
                do="Go back by hand, or publish it under a new version",
            )
        for role, part in read.parts.items():
            if part.sha256 in parts:
                _check(part, parts[part.sha256])
            elif role in read.needed and not self.has(part.sha256):
                raise PartError(
                    f"Part {part.sha256[:12]} of version {read.version} is neither here nor in the message",
                    means="The version can't be assembled; the running model stays",
                    do="Send it again with that part",
                )
        for part in read.parts.values():
            if part.sha256 in parts and not self.has(part.sha256):
                write_atomically(self.root / "parts" / part.sha256, parts[part.sha256])
        self._put_version(read.version, {"manifest.json": manifest, "manifest.sig": signature})
        self._point("highest", read.version)
        return read

    def add_local(self, manifest: bytes, signature: bytes, data: bytes) -> Manifest:
        """Put a version on the shelf that a person brought to this camera; ``highest`` stays as it is.

        Args:
            manifest: As signed.
            signature: This camera's own.
            data: The ``.eim``.

        Raises:
            SignatureError: Not signed by this camera.
            ManifestError: Unreadable, not a local one, or its number is taken.
            PartError: ``data`` is not what the manifest names.
            OSError: The disk refused. In every case the shelf is as it was.
        """
        self._verify_local(manifest, signature)
        read = Manifest.from_bytes(manifest)
        if not is_local(read.version) or read.version in self.versions():
            raise ManifestError(f"Version {read.version} can't be a new local version", means="Nothing was changed")
        part = read.parts["impulse"]
        _check(part, data)
        self.discard_damaged(part)
        if not self.has(part.sha256):
            write_atomically(self.root / "parts" / part.sha256, data)
        self._put_version(read.version, {"manifest.json": manifest, "manifest.sig": signature})
        return read

    def _put_version(self, version: int, files: Mapping[str, bytes]) -> None:
        final = self.root / "versions" / str(version)
        temporary = final.with_name(f".{version}.{secrets.token_hex(4)}")
        temporary.mkdir()
        try:
            for name, data in files.items():
                write_atomically(temporary / name, data)
            shutil.rmtree(final, ignore_errors=True)  # left by a power cut before `highest` was written
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(final.parent)

    # Pointers

    @property
    def current(self) -> int | None:
        """The version that runs."""
        return self._read("current")

    @property
    def previous(self) -> int | None:
        """The version that ran before it."""
        return self._read("previous")

    @property
    def offered(self) -> int | None:
        """The version that waits to be swapped in."""
        return self._read("offered")

    @property
    def highest(self) -> int:
        """The highest version ever accepted; 0 for none. Where its pointer is damaged, the highest one here."""
        found = self._read("highest")
        if found is None and (self.root / "highest").exists():
            return max((version for version in self.versions() if not is_local(version)), default=0)
        return found or 0

    @property
    def fleet_version(self) -> int | None:
        """The fleet's version that runs, or that a local one runs in place of: what nights build on."""
        current = self.current
        if current is None or not is_local(current):
            return current
        before = self.previous
        if before is not None and not is_local(before) and not self.is_quarantined(before):
            return before
        good = [version for version in self.versions() if not is_local(version) and self.was_good(version)]
        return good[-1] if good else self.factory

    def may_be_offered(self, version: int) -> bool:
        """Whether a version may be swapped in unasked: the network can't bring an older one of the fleet's back."""
        return version in self.versions() and (is_local(version) or version >= (self.fleet_version or 0))

    @property
    def next_local(self) -> int:
        """The number of the next local version; none is used twice, because verdicts are kept by number."""
        known = [*self.versions(), *(int(path.stem) for path in self._verdicts())]
        return max([FIRST_LOCAL - 1, *(version for version in known if is_local(version))]) + 1

    def _verdicts(self) -> list[Path]:
        return [path for path in (self.root / "verdicts").glob("*.json") if path.stem.isdigit()]

    @property
    def factory(self) -> int | None:
        """The version that enrolment brought; the oldest one here where that was never noted."""
        return self._read("factory") or next(iter(self.versions()), None)

    def note_factory(self, version: int) -> None:
        """Remember the version that enrolment brought."""
        self._point("factory", version)

    def go_back(self, version: int) -> None:
        """Make an older version the one that runs; the one that ran is no version to go back to."""
        before = [each for each in self.versions() if each < version and self.was_good(each)]
        if before:
            self._point("previous", before[-1])
        else:
            (self.root / "previous").unlink(missing_ok=True)
        self._point("current", version)

    def was_good(self, version: int) -> bool:
        """Whether a version has earned its place here once: the factory's, or one with a good verdict."""
        verdict = standing_verdict(self.root, version)
        return version == self.factory or (verdict is not None and verdict.accepted)

    def is_quarantined(self, version: int) -> bool:
        """Whether a version is kept out until a person says otherwise."""
        verdict = standing_verdict(self.root, version)
        return verdict is not None and verdict.quarantined

    def activate(self, version: int) -> None:
        """Make a version the one that runs from now on and after the next start."""
        current = self.current
        if current is not None and current != version:
            self._point("previous", current)
        self._point("current", version)

    def offer(self, version: int) -> None:
        """Ask the camera process to swap a version in."""
        self._point("offered", version)

    def withdraw_offer(self) -> None:
        """The offer was dealt with."""
        (self.root / "offered").unlink(missing_ok=True)
        sync_folder(self.root)

    def _point(self, name: str, version: int) -> None:
        write_atomically(self.root / name, f"{version}\n".encode())

    def _read(self, name: str) -> int | None:
        """The version that a pointer names; None where it is missing, or damaged, which is logged."""
        try:
            return int((self.root / name).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.error("%s names no version (%s); it counts as missing", self.root / name, error)
            return None


def _check(part: Part, data: bytes) -> None:
    if Part.of(data) != part:
        raise PartError(
            f"Part {part.sha256[:12]} is damaged: {len(data)} bytes that don't match its hash",
            means="It isn't used; the running model stays",
            do="Wait for the next night, which sends it again",
        )
