"""A QR code for a terminal."""

from __future__ import annotations

import io


def qr_lines(text: str) -> str:
    """The code in half-block characters, its quiet zone included; light on dark and dark on light both scan."""
    import segno  # here: one command in a hundred needs it

    out = io.StringIO()
    segno.make_qr(text, error="m").terminal(out, compact=True)
    return out.getvalue()
