"""Another site's page in a user's browser can neither act in their name nor read what we answer."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.security.whole import Whole


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": ""}, 200),
        ({}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
    ],
)
def test_only_the_page_itself_may_change_anything(
    page: Whole, admin: httpx.Client, headers: dict[str, str], status: int
) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answer = admin.post("/api/accounts/role", content=json.dumps({"name": "Vic", "role": "labeller"}), headers=sent)
    assert answer.status_code == status
    (vic,) = [account for account in page.accounts.all() if account.name == "Vic"]
    assert vic.role == ("labeller" if status == 200 else "viewer")


@pytest.mark.parametrize("kind", ["image/png", "application/zip", "text/plain", ""])
def test_a_foreign_page_can_upload_nothing(looker: httpx.Client, kind: str) -> None:
    for path in ("/api/upload", "/api/import"):
        headers = {"Content-Type": kind, "Origin": "https://evil.example"}
        assert looker.post(path, content=b"x", headers=headers).status_code in (403, 415)


def test_logging_in_from_a_foreign_page_is_refused(stranger: httpx.Client) -> None:
    body = {"name": "Ada", "password": "four random words do"}
    answer = stranger.post("/api/login", json=body, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:4912", "127.0.0.1.evil.example", "127.0.0.1:4912.evil.example", "[::2]"),
        *("", "localhost.evil.example", "192.0.2.7", "127.0.0.1@evil.example", "evil.example#localhost", "0.0.0.0"),  # noqa: S104
        *("localhost, evil.example", "127.1", "2130706433", "localhost."),
    ],
)
@pytest.mark.parametrize("path", ["/", "/login", "/api/status", "/static/page.js", "/healthz"])
def test_a_name_that_is_not_ours_is_not_answered(looker: httpx.Client, host: str, path: str) -> None:
    """DNS rebinding: a stranger's name that points to this machine."""
    answer = looker.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert "North gate" not in answer.text


def test_two_host_headers_are_none(shared: Whole) -> None:
    hosts = b"Host: 127.0.0.1\r\nHost: evil.example\r\n"
    answer = shared.raw(b"GET /healthz HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
    assert int(answer.split(b" ")[1]) in (400, 421)


def test_no_header_of_a_proxy_is_believed(stranger: httpx.Client) -> None:
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        for _ in range(2):
            body = {"name": "Ada", "password": "wrong"}
            stranger.post("/api/login", json=body, headers={name: "198.51.100.7"})
    answer = stranger.post("/api/login", json={"name": "Ada", "password": "wrong"})
    assert answer.status_code == 429, "tries with another made-up address each must count together"
    assert stranger.get("/healthz", headers={"X-Forwarded-Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/login", "/", "/api/status", "/static/page.js", "/nowhere", "/healthz", "/api/frames", "/openapi.json"]
)
def test_every_answer_forbids_framing_sniffing_and_keeping(looker: httpx.Client, path: str) -> None:
    headers = looker.get(path).headers
    policy = headers["content-security-policy"]
    for rule in ("default-src 'self'", "object-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_frames_are_kept_by_no_cache(page: Whole, admin: httpx.Client) -> None:
    for what in ("picture", "thumbnail"):
        answer = admin.get(f"/api/frames/{page.frame}/{what}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    "onward",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\evil",
        "javascript:alert(1)",
        "/%0d%0aX: y",
        "/\t/evil",
    ],
)
def test_the_login_leads_to_no_other_site(passer_by: httpx.Client, onward: str) -> None:
    answer = passer_by.get("/login", params={"next": onward})
    if answer.status_code == 303:
        assert answer.headers["location"] == "/login"
    else:
        assert onward == "/%0d%0aX: y"  # a path of ours, however odd
        assert answer.status_code == 200
    asked = passer_by.get("/label?a=1&b=//evil.example")
    assert asked.headers["location"] == "/login?next=/label%3Fa%3D1%26b%3D//evil.example"
