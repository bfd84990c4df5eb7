"""Join codes as the server shows them to a person."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.join_code import Invitation


@dataclass(frozen=True)
class JoinCode:
    """A fresh code. Nobody can show it again: the server keeps what was derived from it only.

    Attributes:
        text: To be typed, like K7QF-2M9X-4PTR.
        host: Where cameras take it.
        port: Likewise.
        fingerprint: Of the fleet's authority, see :func:`appliance.join_code.ca_fingerprint`.
        expires_utc: ISO 8601.
        uri: To be scanned.
    """

    text: str
    host: str
    port: int
    fingerprint: str
    expires_utc: str
    uri: str

    @staticmethod
    def of(invitation: Invitation, expires_utc: str) -> JoinCode:
        """What there is to show of an invitation."""
        given = invitation
        return JoinCode(str(given.code), given.host, given.port, given.fingerprint, expires_utc, given.uri)


@dataclass(frozen=True)
class OpenCode:
    """A code that still lets cameras ask.

    Attributes:
        id: Its public name, the first four symbols.
        expires_utc: ISO 8601.
        uses_left: So many cameras may still ask with it.
        tries_left: So many attempts may still fail.
    """

    id: str
    expires_utc: str
    uses_left: int
    tries_left: int
