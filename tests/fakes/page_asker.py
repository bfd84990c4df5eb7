"""A camera that asks for its page's certificate, by itself or in messages of a test's, and a server that may sign."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes
from typing import Any, cast

from cryptography import x509

from appliance.fleet import node_signature, read_node_public_key
from appliance.join_code import NONCE_BYTES, ca_fingerprint
from appliance.page_material import make_csr
from appliance.page_names import names_in
from appliance.page_request import signed_words
from appliance.page_tls import PageCertificate
from appliance.paths import CameraPaths
from server.admission import Admission
from server.certificates import make_certificates
from server.config import FleetSettings, ServerSettings, SuperLinkSettings
from server.page_certificates import PageCertificates
from server.superlink import SuperLink
from tests.fakes.superlink import FakeSuperLink


class Office:
    """A fleet that signs pages' certificates, and nothing else.

    Args:
        root: Its folder.
        host: The server's name.

    Attributes:
        now: What its clock says.
    """

    def __init__(self, root: Path, host: str = "site-server") -> None:
        self.root = root
        self.now = datetime.now(UTC)
        settings = ServerSettings(root / "server", FleetSettings("north"), SuperLinkSettings(host=host))
        settings.state_dir.mkdir(parents=True)
        self.admission = Admission(settings, cast("SuperLink", FakeSuperLink()))
        make_certificates(self.admission.paths, fleet="north", host=host)
        self.certificates = PageCertificates(self.admission, lambda: self.now)

    @property
    def authority(self) -> bytes:
        """PEM."""
        return self.admission.paths.ca_certificate.read_bytes()

    def trail(self) -> list[str]:
        """Newest first."""
        return [entry.text for entry in self.admission.roster.trail()]

    def asker(self, name: str, *, enrolled: bool = True) -> Asker:
        """A camera of that name."""
        asker = Asker(self, name)
        if enrolled:
            number = len(self.admission.roster.cameras(revoked=True)) + 1
            self.admission.roster.enrol(number, name, asker.public_key)
        return asker


class Asker:
    """A camera with a key of its own."""

    def __init__(self, office: Office, name: str) -> None:
        self.office, self.name = office, name
        self.paths = CameraPaths(office.root / name)
        self.paths.root.mkdir()
        self.public_key = read_node_public_key(self.paths)

    def message(self, names: Sequence[str], **changes: str) -> dict[str, str]:
        """A request, good but for the changes, which are signed too."""
        body = {
            "name": self.name,
            "public_key": self.public_key,
            "at_utc": self.office.now.isoformat(timespec="seconds"),
            "nonce": b64encode(token_bytes(NONCE_BYTES)).decode(),
            "csr": make_csr(self.paths, names),
            **changes,
        }
        words = signed_words(authority=ca_fingerprint(self.office.authority), **body)
        return {**body, "signature": b64encode(node_signature(self.paths, words)).decode()}

    def ask(self, *names: str) -> dict[str, Any]:
        """Send one."""
        return self.office.certificates.issue(self.message(names), "192.168.1.7")


def names_of(answer: dict[str, Any]) -> list[str]:
    """What really stands in the certificate."""
    certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
    return names_in(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def page(paths: CameraPaths, clock: Clock, *names: str, told: list[str] | None = None) -> PageCertificate:
    """The page's certificate of a camera named gate-1; ``told`` hears of every renewal."""
    heard = [] if told is None else told
    return PageCertificate(paths, names, camera="gate-1", on_renewed=lambda: heard.append("renewed"), clock=clock)
