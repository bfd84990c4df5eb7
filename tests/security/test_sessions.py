"""Accounts, codes and sessions, against the served page: who gets in, for how long, and what guessing costs."""

from __future__ import annotations

import sqlite3
import stat
from typing import Literal

import httpx
import pytest
from argon2 import PasswordHasher

from appliance.accounts import CODE_MINUTES
from appliance.sessions import IDLE_S, LONGEST_S
from tests.fakes.camera_page import PASSWORD, accounts_in
from tests.security.whole import CAMERA, Whole


def enters(client: httpx.Client, name: str = "Ada", password: str = PASSWORD) -> httpx.Response:
    return client.post("/api/login", json={"name": name, "password": password})


def code_from(admin: httpx.Client, role: str = "viewer") -> str:
    return str(admin.post("/api/invitations", json={"role": role}).json()["code"])


def joins(client: httpx.Client, code: str, name: str = "Bo", password: str = "another good one") -> httpx.Response:  # noqa: S107
    return client.post("/api/first", json={"code": code, "name": name, "password": password})


# The cookie


def test_the_cookie_is_sent_nowhere_else_and_read_by_no_script(page: Whole, stranger: httpx.Client) -> None:
    answer = enters(stranger)
    name, *rest = answer.headers["set-cookie"].split("; ")
    assert name.startswith(f"__Host-{page.app.state.door.cookie.removeprefix('__Host-')}=")
    flags = {part.lower() for part in rest}
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= flags
    assert not any(flag.startswith("domain") for flag in flags)
    assert len(name.partition("=")[2]) >= 43


def test_a_session_that_somebody_planted_is_worth_nothing_after_the_login(page: Whole) -> None:
    """Session fixation: the attacker knows a session before the victim logs in."""
    cookie = page.app.state.door.cookie
    with page.client("viewer") as attacker, page.client() as victim:
        planted = attacker.cookies[cookie]
        answer = victim.post(
            "/api/login", json={"name": "Ada", "password": PASSWORD}, headers={"Cookie": f"{cookie}={planted}"}
        )
        assert answer.status_code == 200
        assert planted not in answer.headers["set-cookie"]
        assert attacker.get("/api/status").status_code == 401, "the planted session must end"
        made_up = victim.post(
            "/api/login", json={"name": "Ada", "password": PASSWORD}, headers={"Cookie": f"{cookie}=known"}
        )
        assert "=known;" not in made_up.headers["set-cookie"]


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "'%20OR%201=1--", "é", "a" * 5000])
def test_a_made_up_session_is_none(shared: Whole, token: str) -> None:
    with shared.client() as client:
        cookie = f"{shared.app.state.door.cookie}={token}".encode("latin-1")
        assert client.get("/api/status", headers=[(b"cookie", cookie)]).status_code == 401


# How sessions end


def test_logging_out_ends_the_session_on_the_server(page: Whole, admin: httpx.Client) -> None:
    token = admin.cookies[page.app.state.door.cookie]
    assert admin.post("/api/logout", json={}).status_code == 200
    with page.client() as again:
        cookie = {"Cookie": f"{page.app.state.door.cookie}={token}"}
        assert again.get("/api/me", headers=cookie).status_code == 401


def test_a_session_ends_when_nobody_uses_it_and_goes_on_while_somebody_does(page: Whole, admin: httpx.Client) -> None:
    for _ in range(3):
        page.clock.at += IDLE_S - 1
        assert admin.get("/api/me").status_code == 200
    page.clock.at += IDLE_S + 1
    assert admin.get("/api/me").status_code == 401


def test_a_session_ends_after_a_fortnight_however_much_it_is_used(page: Whole, admin: httpx.Client) -> None:
    for _ in range(int(LONGEST_S // 86400)):
        page.clock.at += 86400
        assert admin.get("/api/me").status_code == 200
    page.clock.at += 1
    assert admin.get("/api/me").status_code == 401


def test_another_password_ends_every_other_session_and_goes_on_with_a_new_one(page: Whole) -> None:
    with page.client("viewer") as here, page.client("viewer") as there:
        before = here.cookies[page.app.state.door.cookie]
        change = {"old": PASSWORD, "new": "quite another one"}
        answer = here.post("/api/password", json=change)
        assert answer.status_code == 200
        assert here.cookies[page.app.state.door.cookie] != before
        assert here.get("/api/me").status_code == 200
        assert there.get("/api/me").status_code == 401
    with page.client() as again:
        assert enters(again, "Vic").status_code == 401
        assert enters(again, "Vic", "quite another one").status_code == 200


def test_removal_a_new_role_and_ending_all_end_sessions(page: Whole, admin: httpx.Client) -> None:
    with page.client("viewer") as viewer:
        assert admin.post("/api/accounts/role", json={"name": "Vic", "role": "labeller"}).status_code == 200
        assert viewer.get("/api/me").status_code == 401
        assert enters(viewer, "Vic").status_code == 200
        assert viewer.get("/api/me").json()["role"] == "labeller"
        assert admin.post("/api/accounts/remove", json={"name": "vic"}).status_code == 200
        assert viewer.get("/api/me").status_code == 401
        assert enters(viewer, "Vic").status_code == 401
    with page.client("labeller") as labeller:
        assert admin.post("/api/sessions/end", json={}).json()["ended"] >= 2
        assert labeller.get("/api/me").status_code == 401
    assert admin.get("/api/me").status_code == 401


def test_a_restart_of_the_process_ends_no_session(page: Whole, admin: httpx.Client) -> None:
    token = admin.cookies[page.app.state.door.cookie]
    again = accounts_in(page.paths.root, clock=page.clock)
    found = again.sessions.who(token)
    again.close()
    assert found is not None
    assert (found.name, found.role) == ("Ada", "admin")


@pytest.mark.parametrize("path", ["/stream.mjpg", "/api/live"])
def test_a_stream_ends_with_its_session_and_none_begins_after_it(page: Whole, path: str) -> None:
    with page.client("viewer") as viewer, page.client("viewer") as same:
        same.cookies = viewer.cookies
        with viewer.stream("GET", path) as stream:
            pieces = stream.iter_raw()
            next(pieces)
            page.source.flowing.clear()  # no picture comes: the end must come all the same
            assert same.post("/api/logout", json={}).status_code == 200
            for _ in pieces:  # ends, or the client's deadline fails the test
                pass
        assert same.get(path, follow_redirects=False).status_code in (303, 401)
    assert page.app.state.pictures.viewers == 0


def test_a_stream_of_somebody_who_is_removed_ends(page: Whole, admin: httpx.Client) -> None:
    with page.client("viewer") as viewer, viewer.stream("GET", "/stream.mjpg") as stream:
        pieces = stream.iter_raw()
        next(pieces)
        assert admin.post("/api/accounts/remove", json={"name": "Vic"}).status_code == 200
        for _ in pieces:
            pass


# Guessing


def test_a_thousand_wrong_logins_open_nothing_and_lock_nobody_out(page: Whole, stranger: httpx.Client) -> None:
    throttle_waits = 0
    for number in range(1000):
        name = ("Ada", "Lin", "Nobody", "root")[number % 4]
        answer = enters(stranger, name, f"guess {number}")
        assert answer.status_code in (401, 429)
        assert "set-cookie" not in answer.headers
        if answer.status_code == 429:
            throttle_waits += 1
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            if number % 50 == 0:
                page.clock.at += 61
    assert throttle_waits > 900
    page.clock.at += 61
    assert enters(stranger).status_code == 200, "nobody is shut out for good"


def test_strangers_from_everywhere_do_not_hold_up_an_address_that_had_logged_in(page: Whole) -> None:
    throttle = page.app.state.door._throttle
    with page.client() as known:
        assert enters(known).status_code == 200
        for number in range(200):
            throttle.wait_s(f"203.0.113.{number}")
        assert throttle.wait_s("198.51.100.1") > 0, "a stranger waits"
        assert enters(known).status_code == 200


def test_what_is_wrong_with_a_login_is_not_told(stranger: httpx.Client) -> None:
    unknown, wrong = enters(stranger, "Nobody", "x" * 12), enters(stranger, "Ada", "x" * 12)
    assert (unknown.status_code, unknown.json()) == (wrong.status_code, wrong.json())


def test_an_unknown_name_costs_a_hash_as_a_wrong_password_does(page: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = page.accounts._passwords
    verified: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002  # argon2's name
            verified.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "_hasher", Counting(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr(passwords, "_nobodys", None)
    with page.client() as client:
        enters(client, "Nobody", "wrong")
        enters(client, "Ada", "wrong")
    assert len(verified) == 2
    assert verified[0].split("$")[:4] == verified[1].split("$")[:4], "the same costs"


def test_guessing_the_own_old_password_is_slowed_down_too(admin: httpx.Client) -> None:
    change = {"old": "wrong", "new": "quite another one"}
    answers = [admin.post("/api/password", json=change).status_code for _ in range(4)]
    assert answers == [403, 403, 403, 429]


# One-time codes


def test_a_code_makes_one_account_of_its_role(page: Whole, admin: httpx.Client, stranger: httpx.Client) -> None:
    code = code_from(admin, "labeller")
    assert joins(stranger, code.lower().replace("-", " ")).status_code == 200
    assert stranger.get("/api/me").json()["role"] == "labeller"
    with page.client() as second:
        assert joins(second, code, "Cy").status_code == 401
    assert {account.name for account in page.accounts.all()} == {"Ada", "Bo", "Lin", "Vic"}


def test_a_code_dies_after_its_time_and_after_five_wrong_tries(page: Whole, admin: httpx.Client) -> None:
    with page.client() as client:
        late = code_from(admin)
        page.clock.at += CODE_MINUTES * 60 + 1
        assert joins(client, late).status_code == 401
        guessed = code_from(admin)
        wrong = guessed[:-1] + ("0" if guessed[-1] != "0" else "1")
        for _ in range(5):
            page.clock.at += 61
            assert joins(client, wrong).status_code == 401
        page.clock.at += 61
        assert joins(client, guessed).status_code == 401


def test_a_name_that_is_taken_or_a_bad_password_does_not_spend_the_code(admin: httpx.Client, page: Whole) -> None:
    code = code_from(admin)
    with page.client() as client:
        assert joins(client, code, "ADA").status_code == 422, "nobody becomes somebody else by a code"
        for password in ("short", "x" * 300, "aaaaaaaaaaaa", "Bo", CAMERA, "North-gate 2026", "harboursite12"):
            answer = joins(client, code, "Bo", password)
            assert answer.status_code == 422, password
            assert password not in answer.text
        assert joins(client, code).status_code == 200
        assert client.get("/api/me").json()["name"] == "Bo"


def test_the_last_admin_can_be_neither_removed_nor_demoted(page: Whole, admin: httpx.Client) -> None:
    for path, body in (("remove", {"name": "Ada"}), ("role", {"name": "Ada", "role": "viewer"})):
        answer = admin.post(f"/api/accounts/{path}", json=body)
        assert answer.status_code == 403
        assert "last admin" in answer.json()["error"]["what"]
    assert admin.post("/api/accounts/role", json={"name": "Lin", "role": "admin"}).status_code == 200
    assert admin.post("/api/accounts/remove", json={"name": "Ada"}).status_code == 200
    assert [account.name for account in page.accounts.all() if account.role == "admin"] == ["Lin"]


# On disk


def test_neither_passwords_nor_codes_nor_sessions_lie_on_the_disk(page: Whole, admin: httpx.Client) -> None:
    code = code_from(admin)
    token = admin.cookies[page.app.state.door.cookie]
    folder = page.paths.accounts.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.glob("accounts.sqlite*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        data = file.read_bytes()
        for secret in (PASSWORD, token, code, code.replace("-", "")[4:]):
            assert secret.encode() not in data


def test_a_damaged_file_of_accounts_lets_nobody_in(page: Whole, admin: httpx.Client) -> None:
    with sqlite3.connect(page.paths.accounts) as database:
        database.execute("DROP TABLE sessions")
    database.close()
    assert admin.get("/api/status").status_code == 503
    assert enters(admin).status_code == 503
