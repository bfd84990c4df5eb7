"""No id and no path leads out of the folders that are served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from appliance.web import pages
from tests.security.whole import Whole

SECRET = "only the owner reads this"  # noqa: S105  # it is none
EVIL = [
    *("..", "%2e%2e", "%2e%2e%2f", "..%2f..%2fkeys%2fnode.key", "..%5c..%5ckeys", "%252e%252e%252f", "....//"),
    *("/etc/passwd", "%2fetc%2fpasswd", "file:%2f%2f%2fetc%2fpasswd", "C:%5cWindows", "~root", "%00", "a%00.jpg"),
    *("0" * 31, "0" * 33, "g" * 32, "0" * 31 + "%2f", "A" * 32, "0" * 32 + "%00", "%ff%fe", "%ef%bc%8e%ef%bc%8e"),
    *("'%20OR%20'1'='1", "0%3bDROP%20TABLE%20frames", "-1", "None", "*", "[0-9]*", "%E2%80%AE", "a" * 5000),
]
ROUTES = [
    *(("GET", f"/api/frames/{{}}/{what}") for what in ("picture", "thumbnail")),
    *(("POST", f"/api/frames/{{}}/{what}") for what in ("label", "unclear", "skip", "undo", "delete")),
    *(("GET", "/api/events/{}"), ("GET", "/api/events/{}/snapshot")),
    *(("POST", f"/api/events/{{}}/{what}") for what in ("acknowledge", "false")),
]


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_no_id_leads_anywhere_but_to_its_own_thing(
    shared: Whole, looker: httpx.Client, method: str, route: str
) -> None:
    (shared.paths.root / "keys" / "node.key").write_text(SECRET)
    for evil in EVIL:
        url = httpx.URL(shared.url).copy_with(raw_path=route.format(evil).encode())
        sent = {"json": {"label": "head"} if route.endswith("label") else {}} if method == "POST" else {}
        answer = looker.request(method, url, **sent)  # type: ignore[arg-type]
        # an empty or dotted id may make another, harmless path of it
        assert answer.status_code in (404, 405, 422), (evil, answer.status_code, answer.text)
        assert SECRET not in answer.text
        assert "root:" not in answer.text
        assert set(answer.json()["error"]) == {"what", "means", "do"}


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2e%2e%2fapp.py"),
        *("/static/..%5capp.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/%00", "/static/page.js%00"),
        *("/static/%252e%252e/app.py", "/static/", "/static/.", "/static/..", "/../app.py", "/static/a/../../app.py"),
        *("/static/" + "../" * 12 + "etc/passwd", "/static/" + "a" * 4000, "/static/%c0%ae%c0%ae/app.py"),
    ],
)
def test_no_static_path_leaves_its_folder(shared: Whole, path: str) -> None:
    answer = shared.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    status = int(answer.split(b" ")[1])
    assert status in (303, 400, 404), (path, status)
    assert b"root:" not in answer
    assert b"create_app" not in answer


def test_a_link_planted_among_the_static_files_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    static = tmp_path / "static"
    static.mkdir()
    for name in ("index.html", "login.html"):
        (static / name).write_text("a page")
    (tmp_path / "secret.txt").write_text(SECRET)
    (static / "planted.txt").symlink_to(tmp_path / "secret.txt")
    (static / "folder").symlink_to(tmp_path)
    monkeypatch.setattr(pages, "STATIC", static)
    app = FastAPI(routes=pages.page_routes())

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost/static/") as client:
            return [await client.get(path) for path in ("login.html", "planted.txt", "folder/secret.txt")]

    own, *planted = asyncio.run(ask())
    assert own.text == "a page"
    for answer in planted:
        assert answer.status_code == 404
        assert SECRET not in answer.text


def test_a_link_planted_in_the_store_is_not_followed(page: Whole, admin: httpx.Client) -> None:
    secret = page.paths.root / "secret.txt"
    secret.write_text(SECRET)
    (planted,) = [path for path in page.paths.store.rglob("*.jpg") if page.frame in path.name and path.is_file()][:1]
    planted.unlink()
    planted.symlink_to(secret)
    answer = admin.get(f"/api/frames/{page.frame}/picture")
    assert SECRET not in answer.text
