"""Where things lie inside the server's state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerPaths:
    """The server's state folder.

    Attributes:
        root: The folder itself.
    """

    root: Path

    @property
    def keys(self) -> Path:
        """Private keys: certificate authority, TLS, signing. Readable by their owner only."""
        return self.root / "keys"

    @property
    def ca_key(self) -> Path:
        """The certificate authority's key."""
        return self.keys / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """The certificate authority's certificate, which every camera gets."""
        return self.root / "ca.pem"

    @property
    def tls_key(self) -> Path:
        """The SuperLink's TLS key."""
        return self.keys / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        """The SuperLink's TLS certificate."""
        return self.root / "tls.pem"

    @property
    def signing_key(self) -> Path:
        """The key that signs models."""
        return self.keys / "signing.key"

    @property
    def signing_public(self) -> Path:
        """Its public half, which every camera gets."""
        return self.root / "signing.pem"

    @property
    def models(self) -> Path:
        """The shelf of published versions."""
        return self.root / "models"

    @property
    def store(self) -> Path:
        """The server's own labelled test frames."""
        return self.root / "store"

    @property
    def registry(self) -> Path:
        """Cameras, nights, verdicts (SQLite)."""
        return self.root / "registry.sqlite"

    @property
    def flower(self) -> Path:
        """Flower's own files: FLWR_HOME, SuperLink's database and log, the app bundle."""
        return self.root / "flower"

    @property
    def serving(self) -> Path:
        """Locked by the ServerApp that holds a night."""
        return self.flower / "serving"

    @property
    def following(self) -> Path:
        """Locked by the command that follows a night."""
        return self.flower / "following"
