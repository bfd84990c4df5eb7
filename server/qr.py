"""QR codes as pictures for a page."""

from __future__ import annotations

import io

import segno


def svg(text: str, *, title: str = "") -> str:
    """The code as an ``<svg>`` element that fills its box."""
    out = io.BytesIO()
    code = segno.make_qr(text, error="m")
    code.save(out, kind="svg", xmldecl=False, svgns=True, omitsize=True, light="#fff", title=title or None)
    return out.getvalue().decode()
