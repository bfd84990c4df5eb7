"""Who gets in, and who doesn't: password, sessions, throttling, and every route of the real server over TLS."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from appliance.errors import ConfigError, StoreError
from server.fleet.login import COOKIE, JOIN_PATHS, OPEN_PATHS
from server.fleet.password import Password
from server.fleet.sessions import IDLE_S, LONGEST_S, Sessions
from server.fleet.throttle import Throttle
from server.paths import ServerPaths
from tests.fakes.fleet_page import PASSWORD, FleetPage, History, served, settings_in


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def answers(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"camera {request.method}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page(tmp_path: Path, clock: Clock) -> Iterator[FleetPage]:
    root = tmp_path / "server"
    settings_in(root)
    History(root, ("gate-1",)).enrol()
    join = [Route(f"{JOIN_PATHS}hello", answers, methods=["GET", "POST"])]
    with served(root, sessions=Sessions(clock), throttle=Throttle(clock), join_routes=join) as running:
        yield running


@pytest.fixture
def stranger(page: FleetPage) -> Iterator[httpx.Client]:
    with page.client() as client:
        yield client


@pytest.fixture
def person(page: FleetPage) -> Iterator[httpx.Client]:
    with page.logged_in() as client:
        yield client


# Every route


def test_no_route_but_the_open_ones_answers_a_stranger(page: FleetPage, stranger: httpx.Client) -> None:
    seen = set()
    for route in page.app.routes:
        if isinstance(route, Mount):
            assert route.path.startswith("/static"), "a folder that is open to everybody"
            continue
        assert isinstance(route, Route), "a kind of route that this test does not know"
        if route.path in OPEN_PATHS or route.path.startswith(JOIN_PATHS):
            continue
        path = re.sub(r"\{[^}]*\}", "1", route.path)
        seen.add(path)
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = stranger.request(method, path, json={"camera": "gate-1", "id": 1, "why": "x"})
            assert "gate-1" not in answer.text
            if method not in ("GET", "HEAD", "POST"):
                assert answer.status_code == 405
            elif path.startswith("/api/"):
                assert answer.status_code == 401
                if method != "HEAD":
                    assert set(answer.json()["error"]) == {"what", "means", "do"}
            else:
                assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert {"/", "/api/fleet", "/api/revoke", "/api/export.json"} <= seen


@pytest.mark.parametrize("path", ["/api/later", "/v2", "//api/fleet", "/static/../api/fleet", "/LOGIN", "/login/"])
def test_a_path_that_nobody_thought_of_is_closed_too(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code in (303, 401, 404)
    assert "cameras" not in answer.text


def test_cameras_may_ask_to_join_without_a_login_and_without_being_a_browser(stranger: httpx.Client) -> None:
    del stranger.headers["Origin"]
    assert stranger.post(f"{JOIN_PATHS}hello", content=b"\x00").text == "camera POST"
    assert stranger.get(f"{JOIN_PATHS}../../api/fleet").status_code == 401


def test_static_files_hold_no_secret_and_need_no_login(stranger: httpx.Client) -> None:
    for path in ("/static/fleet.css", "/static/login.js", "/static/camera/page.css", "/static/camera/dom.js"):
        assert stranger.get(path).status_code == 200


# Logging in and out


def test_the_right_password_opens_the_page_and_logging_out_closes_it(page: FleetPage, stranger: httpx.Client) -> None:
    assert "Password" in stranger.get("/login").text
    answer = stranger.post("/api/login", json={"password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE.lower()}=")
    assert all(word in cookie for word in ("secure", "httponly", "samesite=strict", "path=/"))
    assert "domain" not in cookie
    assert stranger.get("/api/fleet").json()["cameras"][0]["name"] == "gate-1"
    assert stranger.get("/login").headers["location"] == "/"
    token = stranger.cookies[COOKIE]
    assert stranger.post("/api/logout", json={}).status_code == 200
    with page.client() as again:
        assert again.get("/api/fleet", headers={"Cookie": f"{COOKIE}={token}"}).status_code == 401


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", PASSWORD.upper(), None, 7, ["a"], "x" * 5000])
def test_a_wrong_password_opens_nothing(stranger: httpx.Client, password: object) -> None:
    answer = stranger.post("/api/login", json={"password": password})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert stranger.get("/api/fleet").status_code == 401


@pytest.mark.parametrize("token", ["", "x", "a" * 43, '"; DROP', "é"])
def test_a_made_up_session_is_none(page: FleetPage, token: str) -> None:
    with page.client() as client:
        headers = [(b"cookie", f"{COOKIE}={token}".encode("latin-1"))]
        assert client.get("/api/fleet", headers=headers).status_code == 401


def test_a_session_ends_when_nobody_uses_it(person: httpx.Client, clock: Clock) -> None:
    clock.at += IDLE_S - 1
    assert person.get("/api/fleet").status_code == 200
    clock.at += IDLE_S + 1
    assert person.get("/api/fleet").status_code == 401


def test_a_session_ends_after_half_a_day_however_much_it_is_used(person: httpx.Client, clock: Clock) -> None:
    for _ in range(int(LONGEST_S // 1800)):
        clock.at += 1800
        assert person.get("/api/trail").status_code == 200
    clock.at += 1
    assert person.get("/api/trail").status_code == 401


def test_another_password_ends_every_session(page: FleetPage, person: httpx.Client) -> None:
    keys = ServerPaths(page.settings.state_dir).keys
    Password(keys).put("another password")
    assert person.get("/api/fleet").status_code == 401
    assert person.post("/api/login", json={"password": PASSWORD}).status_code == 401
    assert person.post("/api/login", json={"password": "another password"}).status_code == 200


def test_the_same_password_set_again_ends_every_session_too(page: FleetPage, person: httpx.Client) -> None:
    Password(ServerPaths(page.settings.state_dir).keys).put(PASSWORD)
    assert person.get("/api/fleet").status_code == 401


def test_without_a_password_nobody_gets_in_and_the_page_says_what_to_run(tmp_path: Path) -> None:
    root = tmp_path / "server"
    settings_in(root)
    join = [Route(f"{JOIN_PATHS}hello", answers)]
    with served(root, password="", join_routes=join) as page, page.client() as client:
        answer = client.get("/login")
        assert answer.status_code == 503
        assert "sitecam-fleet password" in answer.text
        for password in ("", "x"):
            refused = client.post("/api/login", json={"password": password})
            assert refused.status_code == 503
            assert "sitecam-fleet password" in refused.json()["error"]["do"]
        assert client.get("/api/fleet").status_code == 401
        assert client.get(f"{JOIN_PATHS}hello").text == "camera GET"


def test_a_password_file_that_cannot_be_read_lets_nobody_in(page: FleetPage, person: httpx.Client) -> None:
    file = ServerPaths(page.settings.state_dir).keys / "page-password.json"
    file.write_text('{"salt": 1}')
    assert person.get("/api/fleet").status_code == 401
    assert person.post("/api/login", json={"password": PASSWORD}).status_code == 503


# Guessing


def test_guessing_gets_slower_and_the_right_password_is_taken_after_the_wait(
    stranger: httpx.Client, clock: Clock
) -> None:
    for _ in range(3):
        assert stranger.post("/api/login", json={"password": "wrong password"}).status_code == 401
    answer = stranger.post("/api/login", json={"password": PASSWORD})
    assert answer.status_code == 429
    assert "next try is looked at in 1 s" in answer.json()["error"]["what"]
    clock.at += float(answer.headers["retry-after"])
    assert stranger.post("/api/login", json={"password": PASSWORD}).status_code == 200


def test_one_address_waits_a_minute_at_most_and_is_forgotten_after_a_while(clock: Clock) -> None:
    throttle = Throttle(clock)
    waits = []
    for _ in range(12):
        waited = throttle.wait_s("192.0.2.1")
        waits.append(waited)
        clock.at += waited
        if waited:
            assert throttle.wait_s("192.0.2.1") == 0
    assert waits[:6] == [0, 0, 0, 1, 2, 4]
    assert max(waits) == 60
    assert throttle.wait_s("192.0.2.2") == 0
    clock.at += 1000
    assert throttle.wait_s("192.0.2.1") == 0


def test_many_addresses_together_are_slowed_down_but_not_one_that_had_logged_in(clock: Clock) -> None:
    throttle = Throttle(clock)
    assert throttle.wait_s("198.51.100.7") == 0
    throttle.right("198.51.100.7")
    for number in range(30):
        assert throttle.wait_s(f"192.0.2.{number}") == 0
    assert 0 < throttle.wait_s("203.0.113.1") <= 60
    assert throttle.wait_s("198.51.100.7") == 0
    clock.at += 61
    assert throttle.wait_s("203.0.113.1") == 0


def test_one_ipv6_network_is_one_guesser(clock: Clock) -> None:
    throttle = Throttle(clock)
    assert [throttle.wait_s(f"2001:db8::{number:x}") for number in range(4)] == [0, 0, 0, 1]
    assert throttle.wait_s("2001:db8:0:1::1") == 0


def test_tries_at_the_same_moment_count_before_they_are_known_to_be_wrong(clock: Clock) -> None:
    throttle = Throttle(clock)
    assert [throttle.wait_s("192.0.2.1") > 0 for _ in range(6)] == [False] * 3 + [True] * 3


def test_sessions_are_bounded(clock: Clock) -> None:
    sessions = Sessions(clock)
    first = sessions.begin("mark")
    others = []
    for _ in range(100):
        clock.at += 1
        others.append(sessions.begin("mark"))
    assert not sessions.holds(first, "mark")
    assert all(sessions.holds(token, "mark") for token in others)


# Other pages' scripts


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": ""}, 200),
        ({}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_only_the_page_itself_may_change_anything(person: httpx.Client, headers: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answer = person.post("/api/release", content=json.dumps({"camera": "gate-1"}), headers=sent)
    assert answer.status_code == status
    trail = person.get("/api/trail").json()["trail"]
    assert any("may train again" in entry["text"] for entry in trail) == (status == 200)


def test_a_request_under_a_foreign_name_is_refused(stranger: httpx.Client) -> None:
    assert stranger.get("/login", headers={"Host": "evil.example"}).status_code == 421


def test_an_endless_body_is_cut_off(stranger: httpx.Client) -> None:
    answer = stranger.post("/api/login", content=b"[" * 20_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 9000])
def test_what_is_not_an_object_is_refused_or_empty(stranger: httpx.Client, body: bytes) -> None:
    answer = stranger.post("/api/login", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == (401 if body == b"" else 400)


def test_answers_carry_the_guards_headers(stranger: httpx.Client) -> None:
    for path in ("/login", "/", "/api/fleet", "/static/fleet.js"):
        headers = stranger.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] in ("no-store", "no-cache")


# The password's file


def test_the_password_is_kept_as_a_salted_hash_that_only_its_owner_reads(tmp_path: Path) -> None:
    password = Password(tmp_path)
    password.put(PASSWORD)
    file = tmp_path / "page-password.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD not in file.read_text()
    first = file.read_text()
    password.put(PASSWORD)
    assert file.read_text() != first
    assert password.matches(PASSWORD)
    assert not password.matches(PASSWORD[:-1])


@pytest.mark.parametrize("password", ["", "123456789", "x" * 1001])
def test_a_password_that_is_too_short_or_too_long_is_not_set(tmp_path: Path, password: str) -> None:
    with pytest.raises(ConfigError, match="characters"):
        Password(tmp_path).put(password)
    assert list(tmp_path.iterdir()) == []
    assert not Password(tmp_path).matches(password)


def test_a_damaged_password_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "page-password.json").write_text("{}")
    with pytest.raises(StoreError, match="sitecam-fleet password"):
        Password(tmp_path).matches("whatever it is")


def test_what_is_done_here_stands_in_the_trail_as_the_pages_doing(person: httpx.Client) -> None:
    assert person.post("/api/release", json={"camera": "gate-1"}).status_code == 200
    assert person.get("/api/trail").json()["trail"][0]["who"] == "page"
