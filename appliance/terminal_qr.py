"""A QR code for a terminal."""

from __future__ import annotations

import io

from appliance.errors import ConfigError


def qr_lines(text: str) -> str:
    """The code in half-block characters, its quiet zone included; light on dark and dark on light both scan.

    Raises:
        ConfigError: What draws it isn't installed.
    """
    try:
        import segno  # here: one command in a hundred needs it
    except ModuleNotFoundError as error:
        raise ConfigError(
            "A QR code can't be drawn: the package segno is missing",
            means="Everything else works without it",
            do="Leave --qr out and type the address, or install segno into this environment",
        ) from error

    out = io.StringIO()
    segno.make_qr(text, error="m").terminal(out, compact=True)
    return out.getvalue()
