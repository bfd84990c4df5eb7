"""What a request brings is bounded before anybody looks at it, and a picture before it is decoded."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib

import httpx
import pytest
from PIL import Image

from appliance.web import bodies
from appliance.web.bodies import JSON_BYTES
from tests.fakes.pictures import encoded, scene
from tests.security.whole import Whole

JSON = {"Content-Type": "application/json"}


def png_of(width: int, height: int, *, data: bytes = b"") -> bytes:
    """A PNG that says it is that large; a few bytes of zeros go a long way."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data or zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def polyglot() -> bytes:
    """A GIF's head, then a web page with a script."""
    return b"GIF89a/*" + b"*/=1;<script>alert(1)</script><html>" * 50


def zip_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


EVIL_PICTURES = {
    "two thousand million pixels": png_of(50_000, 50_000),
    "as many in one row": png_of(2_000_000_000, 1),
    "none at all": png_of(0, 0),
    "a bomb of zeros": png_of(30_000, 30_000, data=zlib.compress(bytes(20_000_000), 9)),
    "cut off": encoded(scene(1))[:700],
    "a head alone": b"\xff\xd8\xff\xe0",
    "a page that says it is a picture": polyglot(),
    "a script in vectors": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n",
    "nothing": b"",
    "zeros": bytes(10_000),
}


@pytest.mark.parametrize("name", EVIL_PICTURES)
def test_a_picture_that_is_none_or_too_large_is_refused_and_the_page_goes_on(
    shared: Whole, looker: httpx.Client, name: str
) -> None:
    for kind in ("image/png", "image/jpeg", "image/svg+xml"):
        answer = looker.post("/api/upload", content=EVIL_PICTURES[name], headers={"Content-Type": kind})
        assert answer.status_code in (413, 415, 422), (kind, answer.status_code, answer.text)
        assert set(answer.json()["error"]) == {"what", "means", "do"}
    assert looker.get("/healthz").status_code == 200
    assert [path for path in shared.paths.store.rglob("*") if path.suffix in (".svg", ".gif", ".html", ".ps")] == []


def test_a_picture_with_a_page_behind_it_is_stored_as_pixels_alone(page: Whole, admin: httpx.Client) -> None:
    tail = b"<script>alert(1)</script>"
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "taken at 48.1 N 11.5 E"
    Image.fromarray(scene(77)).save(out, "JPEG", exif=exif)
    answer = admin.post("/api/upload", content=out.getvalue() + tail, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    shown = admin.get(f"/api/frames/{answer.json()['id']}/picture")
    assert shown.headers["content-type"] == "image/jpeg"
    assert tail not in shown.content
    assert b"48.1 N" not in shown.content
    for path in page.paths.store.rglob("*.jpg"):
        assert tail not in path.read_bytes()


def test_a_body_that_is_too_long_is_refused_before_it_is_read(shared: Whole, looker: httpx.Client) -> None:
    answer = looker.post("/api/invitations", content=b"[" * (JSON_BYTES + 1), headers=JSON)
    assert answer.status_code == 413
    cookie = "; ".join(f"{name}={value}" for name, value in looker.cookies.items())
    for path, kind, length in (("upload", "image/png", 20_000_001), ("import", "application/zip", 9 * 10**12)):
        head = f"POST /api/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://127.0.0.1\r\nCookie: {cookie}\r\n"
        said = shared.raw(f"{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert said.split(b" ")[1] == b"413", "refused on its word alone: no byte of it was sent"


def test_a_body_without_a_length_is_cut_off_where_it_gets_too_long(looker: httpx.Client) -> None:
    def endless() -> object:
        for _ in range(100):
            yield b" " * 1024

    answer = looker.post("/api/invitations", content=endless(), headers=JSON)  # type: ignore[arg-type]
    assert answer.status_code == 413
    upload = looker.post("/api/upload", content=endless(), headers={"Content-Type": "image/png"})  # type: ignore[arg-type]
    assert upload.status_code == 411


def test_a_body_that_never_comes_is_not_waited_for_for_ever(page: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WHOLE_S", 0.2)
    head = f"POST /api/login HTTP/1.1\r\nHost: {page.url[8:]}\r\nOrigin: {page.url}\r\nConnection: close\r\n"
    answer = page.raw(f"{head}Content-Type: application/json\r\nContent-Length: 40\r\n\r\n{{".encode())
    assert answer.split(b" ")[1] == b"408"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"7", b"[]", b'"x"', b"null", b"\xff\xfe", b"[" * 60_000, b'{"a":' * 9000, b"NaN", b"1e999"),
        *(b'{"role": "\\ud800"}', b'{"\\ud800": 1}', b'{"role": "root"}', b'{"role": ["admin"]}', b'{"role": null}'),
        *(b'{"role": "viewer", "more": 1}', b'{"role": "admin\\u0000"}', b"{" + b'"a":1,' * 5000 + b'"b":1}'),
    ],
)
def test_what_is_no_wish_of_ours_is_refused_in_one_shape(looker: httpx.Client, body: bytes) -> None:
    answer = looker.post("/api/invitations", content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert set(answer.json()["error"]) == {"what", "means", "do"}


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"PK\x05\x06" + bytes(18),
        b"PK\x03\x04" + bytes(2000),
        zip_of(**{"../../../evil.txt": b"x", "/etc/cron.d/evil": b"x"}),
        zip_of(**{"frames.json": b"[" * 100_000}),
        zip_of(**{"frames.json": bytes(30_000_000)}),
        zip_of(**{"manifest.json": json.dumps({"frames": [{"id": "../../evil"}]}).encode()}),
    ],
)
def test_an_archive_that_is_no_export_brings_nothing_in(shared: Whole, looker: httpx.Client, archive: bytes) -> None:
    before = {path for path in shared.paths.root.parent.rglob("*") if "evil" in path.name}
    answer = looker.post("/api/import", content=archive, headers={"Content-Type": "application/zip"})
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert set(answer.json()["error"]) == {"what", "means", "do"}
    assert {path for path in shared.paths.root.parent.rglob("*") if "evil" in path.name} == before
