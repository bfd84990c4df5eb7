"""Where things lie inside a camera's state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CameraPaths:
    """A camera's state folder.

    Attributes:
        root: The folder itself.
    """

    root: Path

    @property
    def store(self) -> Path:
        """Frames, labels and cached features."""
        return self.root / "store"

    @property
    def models(self) -> Path:
        """The shelf."""
        return self.root / "models"

    @property
    def fleet(self) -> Path:
        """What enrolment brought: fleet.json, ca.pem, signing.pem."""
        return self.root / "fleet"

    @property
    def node_key(self) -> Path:
        """This camera's private key; made here, never leaves."""
        return self.root / "keys" / "node.key"

    @property
    def node_public_key(self) -> Path:
        """Its public half, for the server."""
        return self.root / "keys" / "node.pub"

    @property
    def night_status(self) -> Path:
        """How the night goes, written by the night process, read by the page."""
        return self.root / "night.json"

    @property
    def events(self) -> Path:
        """What happened in front of the camera or to it: events.sqlite and a snapshot per event."""
        return self.root / "events"

    @property
    def camera_restarts(self) -> Path:
        """How often in a row the process was started afresh because no picture came."""
        return self.root / "camera-restarts.json"

    @property
    def reboot_request(self) -> Path:
        """Appears when nothing but a reboot can help; says why."""
        return self.root / "reboot-request.json"

    @property
    def ledger(self) -> Path:
        """What left this camera, one JSON line per message."""
        return self.root / "ledger.jsonl"

    @property
    def flower(self) -> Path:
        """Flower's own files at night."""
        return self.root / "flower"

    @property
    def accounts(self) -> Path:
        """Who may use the page: names, roles, password hashes, sessions (SQLite)."""
        return self.root / "keys" / "accounts.sqlite"

    @property
    def metrics_token(self) -> Path:
        """What a Prometheus server must bring to read /metrics."""
        return self.root / "keys" / "metrics.token"

    @property
    def page_key(self) -> Path:
        """The page's TLS key; made here, never leaves."""
        return self.root / "keys" / "page.key"

    @property
    def page_certificate(self) -> Path:
        """The page's TLS certificate: the fleet's, or one that this camera signed itself until it has that."""
        return self.root / "keys" / "page.pem"
