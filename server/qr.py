"""QR codes: for a terminal, and as a picture for a page."""

from __future__ import annotations

import io

import segno


def terminal(text: str) -> str:
    """The code in half-block characters, its quiet zone included; light on dark and dark on light both scan."""
    out = io.StringIO()
    _code(text).terminal(out, compact=True)
    return out.getvalue()


def svg(text: str, *, title: str = "") -> str:
    """The code as an ``<svg>`` element that fills its box."""
    out = io.BytesIO()
    _code(text).save(out, kind="svg", xmldecl=False, svgns=True, omitsize=True, light="#fff", title=title or None)
    return out.getvalue().decode()


def _code(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="m")
