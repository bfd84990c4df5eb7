"""The token that a Prometheus server brings to read ``/metrics``: made here, kept in a file of its own."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from starlette.requests import Request

from appliance.files import write_atomically

_BYTES = 32


def metrics_token(path: Path) -> str:
    """The token, made where there is none. Delete its file and start the camera again for another.

    Args:
        path: Its file, readable by its owner only.

    Raises:
        OSError: The disk refused.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = ""
    if not token:  # or a power cut left an empty file: whoever brings nothing must not get in
        token = secrets.token_urlsafe(_BYTES)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, f"{token}\n".encode(), mode=0o600)
    return token


class TokenCheck:
    """Tells whether a request brings the token.

    Args:
        token: From :func:`metrics_token`.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __call__(self, request: Request) -> bool:
        """Whether it has ``Authorization: Bearer TOKEN``, compared in constant time."""
        scheme, _, brought = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(brought.strip().encode(), self._token)
