"""What the page asks of whoever lets cameras in and puts them out; server/admission.py does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.codes import JoinCode, OpenCode
from server.enrolment_tables import JoinRequest
from server.roster import EnrolledCamera


class Gatekeeper(Protocol):
    """Lets cameras in and puts them out. Every call may take seconds and raise a SitecamError."""

    def new_code(self, *, approve: bool = False, who: str) -> JoinCode:
        """Make a code with which one camera may ask to be let in, or with ``approve`` is let in."""

    def open_codes(self) -> Sequence[OpenCode]:
        """Codes that still count."""

    def requests(self) -> Sequence[JoinRequest]:
        """Who asks and waits for an answer."""

    def approve(self, request_id: int, *, who: str) -> EnrolledCamera:
        """Let that camera in."""

    def refuse(self, request_id: int, reason: str, *, who: str) -> None:
        """Don't."""

    def revoke(self, name: str, reason: str, *, who: str) -> None:
        """Put a camera out for good."""

    def release(self, name: str, *, who: str) -> None:
        """Let a camera that is on hold train again."""
